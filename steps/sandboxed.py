"""What every step that runs code in a sandbox has: limits, network, tools, files and secrets, and their checks."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from flows.contracts import Catalogue, Finding
from flows.model import Config, StepConfig
from flows.names import name_finding
from flows.schemas import check_schema
from flows.suggestions import instead, listing
from flows.values import ByteSize, Duration, Json
from steps.allowlist import host_problem

MIN_MEMORY = 16_000_000
"""Bytes: less than this no interpreter starts in."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = re.compile(r"(?P<step>[a-z][a-z0-9_]*)/(?P<name>[^/\x00][^\x00]*)")

ARTIFACTS = "artifacts"
"""The directory, within the work directory, whose files are a step's artifacts."""
MIN_DISK = 1_000_000
"""Bytes; a file system of size 0 would have no limit at all."""
MAX_PIDS = 10_000
"""More than the default of pid_max would leave for anything else (see proc(5))."""


class LimitsConfig(Config):
    """What a step's code may use up; left out: the default of the language (see steps/sandbox/limits.py)."""

    timeout: Duration | None = None
    """How long the code may run before it is stopped."""
    memory: ByteSize | None = None
    """Of all its processes together."""
    cpu: float | None = Field(default=None, gt=0, le=1024)
    """Processors: 0.5 is half of one."""
    pids: int | None = Field(default=None, ge=1, le=MAX_PIDS)
    """Processes and threads at once."""
    disk: ByteSize | None = None
    """Of the work directory, and the same of /tmp."""
    output: ByteSize | None = None
    """stdout and stderr together; what is beyond is dropped and marked."""
    tool_calls: int | None = Field(default=None, ge=0)
    """Calls of tools."""
    requests: int | None = Field(default=None, ge=0)
    """Requests over the network: connections to a host, however much goes through each."""
    transfer: ByteSize | None = None
    """Bytes over the network, both ways together."""
    artifacts: ByteSize | None = None
    """Of all the files together that it leaves in its directory ``artifacts``."""


class Allow(Config):
    """Hosts that the code may reach."""

    allow: list[str]
    """Exact names, or ``*.example.org`` for every name below; each with an optional ``:port``. Empty: none."""


class SandboxConfig(StepConfig):
    """What every step that runs code in a sandbox has."""

    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """What the code may use up."""
    network: Literal["none", "full"] | Allow = "none"
    """What the code may reach: none, full, or a mapping with ``allow``."""
    tools: list[str] = Field(default_factory=list)
    """Full names of the tools that the code may call; nothing else exists for it."""
    returns: dict[str, Json] | None = None
    """A JSON Schema that the result must match."""
    files: list[str] = Field(default_factory=list)
    """Artifacts of earlier steps to put into the work directory, each as ``STEP/NAME``; ``STEP/*`` is all of them.

    Each lies there under that name: ``report/table.csv``.
    """
    secrets: list[str] = Field(default_factory=list)
    """Names of the secrets given to the code: ``secrets.name`` in Python and JavaScript, else ``$SECRETS/name``."""
    runtime: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """The container runtime by name, such as ``runsc``; left out: the one that the installation is set to."""


def check_sandboxed(config: SandboxConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """What is wrong with anything but the code itself."""
    yield from _inputs(config)
    yield from _tools(config.tools, catalogue)
    yield from _network(config.network)
    yield from _files(config.files)
    yield from _secrets(config.secrets)
    if config.limits.memory is not None and config.limits.memory < MIN_MEMORY:
        message = f"`memory` must be at least {MIN_MEMORY // 1_000_000}MB"
        yield Finding(path=("limits", "memory"), code="invalid_value", message=message, fix="write `memory: 128MB`")
    if config.limits.disk is not None and config.limits.disk < MIN_DISK:
        message = f"`disk` must be at least {MIN_DISK // 1_000_000}MB"
        yield Finding(path=("limits", "disk"), code="invalid_value", message=message, fix="write `disk: 64MB`")
    for path, limit in ((("limits", "timeout"), config.limits.timeout), (("timeout",), config.timeout)):
        if limit == 0:
            message = "`timeout` must be more than 0s"
            yield Finding(path=path, code="invalid_value", message=message, fix="write `timeout: 30s`")
    for each in check_schema(config.returns) if config.returns is not None else ():
        place = ("returns", *each.path)
        at: Literal["key", "value"] = "key" if each.key else "value"
        yield Finding(path=place, code="invalid_schema", message=each.message, fix=each.fix, at=at)


def named_steps(config: StepConfig) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """The steps whose artifacts ``files`` names, each with its place."""
    assert isinstance(config, SandboxConfig)
    for position, name in enumerate(config.files):
        if (step := _artifact_step(name)) is not None:
            yield ("files", position), step


def _inputs(config: SandboxConfig) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in config.with_:
        path = ("with", name)
        if not _IDENTIFIER.fullmatch(name):
            message = f"code can't have an input `{name[:80]}`"
            fix = "use letters, digits and _, and begin with a letter"
            yield Finding(path=path, code="invalid_name", message=message, fix=fix, at="key")
        elif name.upper() in seen:
            message = f"`{name}` and `{seen[name.upper()]}` are the same environment variable"
            yield Finding(path=path, code="name_clash", message=message, fix="give one another name", at="key")
        seen.setdefault(name.upper(), name)


def _tools(tools: list[str], catalogue: Catalogue) -> Iterator[Finding]:
    for position, name in enumerate(tools):
        path = ("tools", position)
        if (finding := unknown_tool(name, path, catalogue)) is not None:
            yield finding
        elif name in tools[:position]:
            message = f"`{name}` is already granted"
            yield Finding(path=path, code="duplicate_tool", message=message, fix="remove one of the two")


def unknown_tool(name: str, path: tuple[str | int, ...], catalogue: Catalogue) -> Finding | None:
    """The finding for a tool that isn't in the catalogue, or None where it is."""
    if catalogue.get(name) is not None:
        return None
    known = sorted(catalogue.names())
    same = [each for each in known if each.rpartition(".")[2] == name]
    otherwise = f"known: {listing(known, limit=6)}" if known else "there are no tools here"
    fix = f"write the full name `{same[0]}`" if same else instead(name, known, otherwise=otherwise)
    return Finding(path=path, code="unknown_tool", message=f"there is no tool `{name[:80]}`", fix=fix)


def _network(network: Literal["none", "full"] | Allow) -> Iterator[Finding]:
    if not isinstance(network, Allow):
        return
    for position, host in enumerate(network.allow):
        if (reason := host_problem(host)) is not None:
            message, fix = reason
            yield Finding(path=("network", "allow", position), code="invalid_host", message=message, fix=fix)


def _files(files: list[str]) -> Iterator[Finding]:
    for position, name in enumerate(files):
        path, step = ("files", position), _artifact_step(name)
        if step is None:
            message = f"`{name[:80]}` doesn't name an artifact of a step"
            fix = "write `STEP/NAME`, such as `report/table.csv`, or `report/*`"
            yield Finding(path=path, code="invalid_file", message=message, fix=fix)
        elif step == ARTIFACTS:
            message = f"the files of a step `{ARTIFACTS}` would lie where the artifacts of this one are collected"
            yield Finding(path=path, code="name_clash", message=message, fix="give that step another id")
        elif name in files[:position]:
            message = f"`{name[:80]}` is named already"
            yield Finding(path=path, code="duplicate_file", message=message, fix="remove one of the two")


def _artifact_step(name: str) -> str | None:
    match = _FILE.fullmatch(name)
    return None if match is None or not {"", ".", ".."}.isdisjoint(match["name"].split("/")) else match["step"]


def _secrets(secrets: list[str]) -> Iterator[Finding]:
    for position, name in enumerate(secrets):
        path = ("secrets", position)
        if (finding := name_finding(name, path, "a secret")) is not None:
            yield finding
        elif name in secrets[:position]:
            message = f"`{name}` is named already"
            yield Finding(path=path, code="duplicate_secret", message=message, fix="remove one of the two")
