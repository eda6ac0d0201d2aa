"""The policy of a workspace: the document that its admins write, its checks, and what it means for steps."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from flows.contracts import Finding, Isolation
from flows.errors import InvalidCallError, InvalidFlowError, Problem
from flows.kinds import parse_model
from flows.model import Config
from flows.reader import read_document
from flows.values import ByteSize, Duration, Json
from steps.addresses import Endpoint
from steps.ceilings import NETWORKS, Ceilings
from steps.denied_domains import DeniedDomains, pattern_problem
from steps.image_reference import ImagePattern
from steps.sandboxed import MAX_PIDS, MIN_DISK, MIN_MEMORY

CONCURRENT_CODE: Final = 10
"""Runs of code at once in a workspace whose policy says nothing of it (DESIGN section 3)."""
MAX_DOCUMENT: Final = 100_000
"""Bytes of a policy as JSON: thousands of domains."""

_TOOL: Final = re.compile(r"[A-Za-z0-9_.*-]{1,200}")
_Memory: TypeAlias = Annotated[ByteSize, Field(ge=MIN_MEMORY)]
_Disk: TypeAlias = Annotated[ByteSize, Field(ge=MIN_DISK)]


class InvalidPolicyError(InvalidCallError):
    """A policy with one or more problems; the message has all of them."""

    code = "invalid_policy"


class InvalidPolicyTextError(InvalidFlowError):
    """The text of a policy with one or more problems, each with its place."""

    code = "invalid_policy"


class LimitCeilings(Config):
    """The most that a step's ``limits`` may say; a step that says nothing gets no more either."""

    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """How long code may run."""
    memory: _Memory | None = None
    cpu: float | None = Field(default=None, gt=0, le=1024)
    """Processors: 0.5 is half of one."""
    pids: int | None = Field(default=None, ge=1, le=MAX_PIDS)
    disk: _Disk | None = None
    output: ByteSize | None = None
    code: ByteSize | None = None
    """Bytes of the code itself."""
    result: ByteSize | None = None
    artifacts: ByteSize | None = None
    requests: int | None = Field(default=None, ge=0)
    """Over the network."""
    transfer: ByteSize | None = None
    """Over the network, both ways together."""
    tool_calls: int | None = Field(default=None, ge=0)


class WorkspacePolicy(Config):
    """What the admins of a workspace let its flows do. Made without anything, it is the default."""

    limits: LimitCeilings = Field(default_factory=LimitCeilings)
    min_isolation: Isolation | None = None
    """What code must be isolated by at least: ``jail`` or ``container``."""
    networks: list[Literal["none", "allow", "full"]] = Field(default_factory=lambda: [*NETWORKS])  # type: ignore[arg-type]
    """The modes of a step's ``network``; ``none`` is always allowed."""
    denied_domains: list[str] = Field(default_factory=list)
    """Names that nothing may reach (:class:`steps.denied_domains.DeniedDomains`)."""
    internal: list[str] = Field(default_factory=list)
    """Destinations that may be reached though not public, each as exact ``host:port``."""
    images: list[str] | None = None
    """Patterns of the images that may be used (:class:`steps.image_reference.ImagePattern`); left out: all."""
    approve_tools: list[str] = Field(default_factory=list)
    """Patterns of the tools that a person is asked for before each call."""
    concurrent_code: int = Field(default=CONCURRENT_CODE, ge=1, le=1000)
    """Runs of code at once; further ones queue."""
    full_network: Literal["approval", "allow"] = "approval"
    """Whether a version of a flow with ``network: full``, where ``networks`` has that, waits for an admin's yes."""
    own_approvals: Literal["allow", "refuse"] | None = None
    """Whether who asks may decide; left out: by what is asked for."""
    notify: list[str] = Field(default_factory=list)
    """Names of the secrets that hold the URLs which are told of questions."""

    def ceilings(self) -> Ceilings:
        """What it means for steps."""
        limits = self.limits.model_dump()
        return Ceilings(
            limits={name: value for name, value in limits.items() if value is not None},
            min_isolation=self.min_isolation,
            networks=frozenset(self.networks),
            denied=DeniedDomains(tuple(self.denied_domains)),
            images=None if self.images is None else tuple(map(ImagePattern.parse, self.images)),
            approve_tools=tuple(self.approve_tools),
            internal=frozenset(map(Endpoint.parse, self.internal)),
        )


@dataclass(frozen=True, kw_only=True)
class PolicyVersion:
    """One immutable version of a workspace's policy: the document as it was written, numbered from 1.

    Number 0 stands for a workspace whose policy nobody has set: it is the default, ``set_by`` and ``set_at`` are None.
    """

    workspace: str
    number: int = 0
    document: Mapping[str, Json] = field(default_factory=dict)
    set_by: str | None = None
    set_at: datetime | None = None

    @property
    def tag(self) -> str:
        """What changes whenever the policy does: for conditional requests."""
        return f"policy-{self.number}"


def parse(document: Json) -> WorkspacePolicy:
    """A policy from its document.

    Raises:
        InvalidPolicyError: something is wrong with it; the message names everything.
    """
    policy, findings = _check(document)
    if policy is None or findings:
        raise InvalidPolicyError(
            "\n".join(f"{_dotted(one.path)}: {one.message} ({one.fix})" for one in findings),
            fix="see docs/policy.md for all that a policy can say",
        )
    return policy


def read(text: bytes | str, *, path: str) -> dict[str, Json]:
    """The document of a policy that is written as YAML (or JSON, which is YAML), checked. ``path`` names it.

    Raises:
        InvalidPolicyTextError: something is wrong with it; every problem, with its place.
    """
    if not text.strip():
        raise InvalidPolicyError("the policy is empty", fix="write `{}` for the default one")
    document = read_document(text)
    problems = [
        Problem(path=path, line=one.mark.line, column=one.mark.column, code=one.code, message=one.message, fix=one.fix)
        for one in document.defects
    ]
    if problems:
        raise InvalidPolicyTextError(problems)
    policy, findings = _check(document.value)
    for one in findings:
        mark = document.key_mark(one.path) if one.at == "key" else document.value_mark(one.path)
        problems.append(
            Problem(path=path, line=mark.line, column=mark.column, code=one.code, message=one.message, fix=one.fix)
        )
    if policy is None or problems:
        raise InvalidPolicyTextError(problems)
    return dict(document.value)


def as_text(document: Mapping[str, Json]) -> str:
    """A document as YAML, in the order in which the keys are described, so that two can be compared line by line."""
    keys = [name for name in WorkspacePolicy.model_fields if name in document]
    return "".join(_yaml(key, document[key], "") for key in keys) or "{}\n"


def _yaml(key: str, value: Json, indent: str) -> str:
    if isinstance(value, Mapping) and value:
        return f"{indent}{key}:\n" + "".join(_yaml(name, one, f"{indent}  ") for name, one in value.items())
    if isinstance(value, list) and value:
        return f"{indent}{key}:\n" + "".join(f"{indent}  - {_scalar(one)}\n" for one in value)
    return f"{indent}{key}: {_scalar(value)}\n"


_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off"})


def _scalar(value: Json) -> str:
    is_word = isinstance(value, str) and _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS
    if isinstance(value, str) and is_word and not re.fullmatch(r"[0-9.eExXoO_-]+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _check(document: Json) -> tuple[WorkspacePolicy | None, list[Finding]]:
    findings: list[Finding] = []
    size = len(json.dumps(document))
    if size > MAX_DOCUMENT:
        message = f"the policy is {size:,} bytes of JSON, more than {MAX_DOCUMENT:,}"
        return None, [Finding(path=(), code="too_large", message=message, fix="use patterns for what is alike")]
    policy = parse_model(WorkspacePolicy, document, findings)
    if policy is not None:
        findings += _entries(policy)
    return policy, findings


def _entries(policy: WorkspacePolicy) -> Iterator[Finding]:
    """What is wrong with what the lists hold."""
    for position, domain in enumerate(policy.denied_domains):
        if (wrong := pattern_problem(domain)) is not None:
            yield _invalid(("denied_domains", position), *wrong)
    for position, image in enumerate(policy.images or ()):
        try:
            ImagePattern.parse(image)
        except ValueError as problem:
            yield _invalid(("images", position), f"`{image[:100]}` is no pattern of images", str(problem))
    for position, endpoint in enumerate(policy.internal):
        try:
            Endpoint.parse(endpoint)
        except ValueError as problem:
            fix = "write `host:port`, such as `db.internal:5432`; patterns aren't possible here"
            yield _invalid(("internal", position), str(problem), fix)
    for position, tool in enumerate(policy.approve_tools):
        if not _TOOL.fullmatch(tool):
            fix = "write a tool's full name, or a pattern such as `http.*`"
            yield _invalid(("approve_tools", position), f"`{tool[:100]}` is no pattern of tools", fix)


def _invalid(path: tuple[str | int, ...], message: str, fix: str) -> Finding:
    return Finding(path=path, code="invalid_value", message=message, fix=fix)


def _dotted(path: tuple[str | int, ...]) -> str:
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return shown or "the policy"


DEFAULT: Final = WorkspacePolicy()
"""The policy of a workspace that has none."""
