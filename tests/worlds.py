"""Sandboxes on a network of the test's own: what code in them may reach, and what it may not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from steps.addresses import Endpoint
from steps.allowlist import Allowlist
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job, Network, Outcome
from tests.sandbox.conftest import RecordingHost
from tests.servers import Authority, Journal, Names, Site, local, site

HOST, OTHER = "api.example.com", "plain.example.com"
EVIL = "evil.example.net"


@dataclass
class JournalHost(RecordingHost, Journal):
    """A host that keeps the journal of the network as well."""


@dataclass
class World:
    """Servers on this machine's loopback, with TLS and without, and a way to run code that may reach them."""

    secure: Site
    plain: Site
    names: Names
    authorities: bytes
    sandboxes: Sandboxes

    async def run(
        self, code: str, language: Language = "python", *, host: JournalHost | None = None, **limits: float
    ) -> Outcome:
        return await self.execute(self.job(code, language, **limits), host or JournalHost())

    async def execute(self, job: Job, host: JournalHost) -> Outcome:
        return await self.sandboxes.execute(replace(job, journal=host), host)

    def job(self, code: str, language: Language = "python", **limits: float) -> Job:
        """``SECURE``, ``PLAIN`` and ``EVIL`` in the code are URLs, the last one's not allowed."""
        code = code.replace("SECURE", f"https://{HOST}:{self.secure.port}").replace("EVIL", f"https://{EVIL}")
        code = code.replace("PLAIN", f"http://{OTHER}:{self.plain.port}")
        entries = (f"{HOST}:{self.secure.port}", f"{OTHER}:{self.plain.port}")
        network = Network(
            allow=Allowlist(entries),
            internal=frozenset(map(Endpoint.parse, entries)),
            resolver=self.names,
            authorities=self.authorities,
        )
        return Job(
            language=language,
            code=code,
            inputs={},
            limits=replace(default_limits(language), **limits),  # type: ignore[arg-type] # sizes are whole numbers
            filename={"python": "step.py", "javascript": "step.ts", "shell": "step"}[language],
            network=network,
        )


@asynccontextmanager
async def networked(sandboxes: Sandboxes, tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    authorities = Authority(tmp_path / "other").pem + authority.pem
    async with site(authority.context(HOST)) as secure, site() as plain:
        for server in (secure, plain):
            server.answer("/x", b'{"hello": "world"}', "Content-Type: application/json")
            server.answer("/big", b"0123456789" * 300_000)
            server.answer("/away", b"", f"Location: https://{EVIL}/", status="302 Found")
            server.answer("/over", b"", f"Location: http://{OTHER}:{plain.port}/x", status="302 Found")
        yield World(secure, plain, local(HOST, OTHER, EVIL), authorities, sandboxes)
