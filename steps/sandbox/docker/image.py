"""Building the guest image.

The packages of Python steps and deno are brought by this machine's pip, not by one inside the build: pip's settings
(index, proxy, certificates, credentials) hold as everywhere else, none of them can end up in a layer or in the image's
history, and a build needs no network of its own unless its base lacks a command.
"""

import asyncio
import json
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from deno import find_deno_bin  # type: ignore[import-untyped] # the package has no types
from docker.types import LogConfig

from flows.errors import RefusedError
from steps.sandbox import interpreter
from steps.sandbox.docker import guest
from steps.sandbox.docker.engine import Engine
from steps.sandbox.docker.pull import pull

DEFAULT_BASE = "python:3.12-slim-bookworm"
OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = 27
"""The minor version of glibc 2 that deno's wheels name."""
BUILD_TIMEOUT = 1800

Progress = Callable[[str], None]

# Runs in the base: what must be known of it before packages for it can be found.
_PROBE = """
import json, platform, sys
print(json.dumps([sys.executable, *sys.version_info[:2], platform.machine(), *platform.libc_ver()]))
"""


class ImageBuildError(RefusedError):
    """The guest image can't be built."""

    code = "image_build_failed"


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a base image has: its interpreter, and which wheels are for it. ``glibc`` is the minor version."""

    reference: str
    python: str
    version: tuple[int, int]
    machine: str
    glibc: int

    @property
    def platforms(self) -> list[str]:
        """The platform tags of the wheels that it can take, the best first."""
        modern = [f"manylinux_2_{minor}" for minor in range(self.glibc, 4, -1)]
        return [f"{each}_{self.machine}" for each in (*modern, "manylinux2014", "manylinux2010", "manylinux1", "linux")]


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """A guest image that an Engine has. ``size`` in bytes; ``current`` says that this version of Stepbox uses it."""

    reference: str
    id: str
    base: str
    size: int
    created: str
    current: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


async def build(engine: Engine, *, base: str, network: str | None, progress: Progress) -> BuiltImage:
    """Build the guest image on an Engine. ``network`` is the mode of the build's network, None the Engine's default.

    Raises:
        RefusedError: the base can't be had or used, or the build failed; the message has its last words.
    """
    if await engine.image(base) is None:
        async with aclosing(pull(engine, base)) as lines:
            async for line in lines:
                progress(line)
    found = await _probe(engine, base)
    with tempfile.TemporaryDirectory(prefix="stepbox-image-") as name:
        folder = Path(name)
        progress(f"collecting the packages of Python steps for Python {found.version[0]}.{found.version[1]}")
        await _collect(folder, found)
        await asyncio.to_thread(_pack, folder)
        progress(f"building {guest.tag()} on {base}")
        await _build(engine, folder / "context.tar", found, network)
    return next(image for image in await images(engine) if image.reference == guest.tag())


async def images(engine: Engine) -> list[BuiltImage]:
    """The guest images that an Engine has, the newest first."""
    filters = {"label": [guest.IDENTITY_LABEL]}
    found = await engine.call("list images", lambda client: client.images(filters=filters))
    return [
        BuiltImage(
            reference=reference,
            id=image["Id"],
            base=image["Labels"].get(guest.BASE_LABEL, ""),
            size=image["Size"],
            created=datetime.fromtimestamp(image["Created"], UTC).isoformat(),
            current=image["Labels"][guest.IDENTITY_LABEL] == guest.identity(),
        )
        for image in sorted(found, key=lambda image: -image["Created"])
        for reference in image["RepoTags"] or [image["Id"]]
    ]


async def _probe(engine: Engine, base: str) -> Base:
    """Ask the interpreter of a base what it is."""

    def run(client: docker.APIClient) -> tuple[int, str]:
        host = client.create_host_config(network_mode="none", log_config=LogConfig(type="json-file"))
        made = client.create_container(base, ["-I", "-c", _PROBE], entrypoint=["python3"], host_config=host)
        try:
            client.start(made)
            status = client.wait(made)["StatusCode"]
            return status, client.logs(made).decode(errors="replace")
        finally:
            client.remove_container(made, force=True, v=True)

    status, told = await engine.call(f"run python3 in {base}", run)
    try:
        python, major, minor, machine, libc, release = json.loads(told)
        glibc = int(release.split(".")[1]) if libc == "glibc" else 0
    except (ValueError, IndexError):
        raise ImageBuildError(
            f"python3 of {base} does not work (exit status {status}): {told.strip()[-500:]}",
            fix=f"choose another base by --base, such as {DEFAULT_BASE}",
        ) from None
    if (major, minor) < OLDEST_PYTHON or glibc < OLDEST_GLIBC:
        has = f"Python {major}.{minor} and {libc or 'another C library'} {release}".rstrip()
        raise ImageBuildError(
            f"{base} has {has}; Python 3.11 and glibc 2.{OLDEST_GLIBC} are the oldest that will do",
            fix=f"choose another base by --base, such as {DEFAULT_BASE}",
        )
    return Base(reference=base, python=python, version=(major, minor), machine=machine, glibc=glibc)


async def _collect(folder: Path, base: Base) -> None:
    """Put the packages of Python steps and deno, for the base, into a folder."""
    scratch = folder / "tmp"
    scratch.mkdir()
    lock = ["--require-hashes", "--requirement", str(interpreter.LOCK)]
    await _install("collect the packages of Python steps", folder / "packages", base, scratch, lock)
    if (sys.platform, platform.machine()) == ("linux", base.machine):
        await asyncio.to_thread(shutil.copy, find_deno_bin(), folder / "deno")
        return
    await _install("collect deno", folder / "wheel", base, scratch, [f"deno=={guest.deno_version()}"])
    await asyncio.to_thread(shutil.copy, folder / "wheel" / "bin" / "deno", folder / "deno")


async def _install(purpose: str, target: Path, base: Base, scratch: Path, what: Iterable[str]) -> None:
    """Have pip install into a folder, for the base's interpreter and platform instead of this machine's."""
    await interpreter.run_tool(
        purpose,
        *(sys.executable, "-m", "pip", "install", "--target", str(target), "--no-compile", "--no-deps"),
        *("--only-binary", ":all:", "--disable-pip-version-check", "--quiet", "--implementation", "cp"),
        *("--python-version", ".".join(map(str, base.version))),
        *(word for each in base.platforms for word in ("--platform", each)),
        *what,
        scratch=scratch,
    )


def _pack(folder: Path) -> None:
    """Write the build context, with every file readable by the user of steps, and nobody's in particular."""
    with tarfile.open(folder / "context.tar", "w") as archive:
        for source, name in _context(folder):
            archive.add(source, name, filter=_plain)


def _context(folder: Path) -> Iterator[tuple[Path, str]]:
    yield guest.DOCKERFILE, "Dockerfile"
    yield folder / "packages", "packages"
    yield folder / "deno", "deno"
    root = guest.GUEST.parents[2]
    for path in guest.guest_files():
        yield path, f"stepbox/{path.relative_to(root)}"
    for path in sorted((guest.GUEST / "bin").iterdir()):
        yield path, f"stepbox/bin/{path.name}"


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    executable = entry.isdir() or entry.mode & 0o100 or entry.name.endswith(("/bin/tool", "deno"))
    entry.mode = 0o755 if executable else 0o644
    return entry


async def _build(engine: Engine, context: Path, base: Base, network: str | None) -> None:
    labels = {
        guest.IDENTITY_LABEL: guest.identity(),
        guest.PYTHON_LABEL: base.python,
        guest.BASE_LABEL: base.reference,
    }

    def run(client: docker.APIClient) -> Mapping[str, Any] | None:
        with context.open("rb") as file:
            told: list[str] = []
            for item in client.build(
                fileobj=file,
                custom_context=True,
                tag=guest.tag(),
                buildargs={"BASE": base.reference, "PYTHON": base.python},
                labels=labels,
                network_mode=network,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=BUILD_TIMEOUT,
            ):
                told.append(item.get("stream", ""))
                if "error" in item:
                    return {"error": item["error"], "told": "".join(told)}
        return None

    failed = await engine.call("build an image", run)
    if failed is not None:
        raise ImageBuildError(
            f"the build on {base.reference} failed: {failed['error']}\n{failed['told'].strip()[-2000:]}",
            fix="if a package could not be fetched: give the build another network (--network host), a base that has "
            "bash, curl, jq, grep, git and ca-certificates (--base), or a proxy in ~/.docker/config.json",
        )
