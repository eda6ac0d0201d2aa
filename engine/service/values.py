"""What the use cases take and give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from engine.questions import Approval, Notice
from engine.records import LogLine, Run, RunSummary, StepRun
from flows.values import Json
from steps.sandbox.limits import Language as CodeLanguage


@dataclass(frozen=True, kw_only=True)
class FlowText:
    """A flow as a caller hands it over.

    ``directory`` is where its ``file:`` paths and its subflows are looked for; without one, ``files`` are the texts of
    its files by path.
    """

    text: bytes
    path: str
    directory: Path | None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """Code to execute by itself, without a flow.

    ``network`` is ``none``, ``full`` or the hosts that the code may reach; ``timeout`` in seconds, ``memory`` in bytes,
    None: the language's default.
    """

    language: CodeLanguage
    code: str
    inputs: Mapping[str, Json] = field(default_factory=dict)
    network: Literal["none", "full"] | tuple[str, ...] = "none"
    tools: Sequence[str] = ()
    timeout: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSnippet:
    """A command of an image to execute by itself, without a flow.

    ``command`` is a script for the image's ``/bin/sh`` where it is text, else the arguments of its entry point; None:
    what the image does by default. The others are as in :class:`Snippet`.
    """

    image: str
    command: str | Sequence[str] | None = None
    inputs: Mapping[str, Json] = field(default_factory=dict)
    network: Literal["none", "full"] | tuple[str, ...] = "none"
    timeout: float | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class ApprovalDetail:
    """A question with the notices of it. ``refusal`` is why the principal that asks may not decide it; None: may."""

    approval: Approval
    notices: Sequence[Notice] = ()
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Precondition:
    """What must hold for a flow to be applied: its current :attr:`FlowDetail.tag`, or, for None, that there is none."""

    tag: str | None


@dataclass(frozen=True, kw_only=True)
class AppliedFlow:
    """What applying a flow does, or would do: ``version`` is the number that it has then, None where only asked.

    ``previous`` is the number of the version before. ``diff`` is that of its text and files, in the unified format.
    ``approval`` is the question that an admin has to decide before its steps get ``network: full``.
    """

    flow: str
    change: Literal["created", "updated", "unchanged"]
    version: int | None
    previous: int | None
    digest: str
    diff: str
    approval: str | None = None


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run that was asked for. ``repeated``: the same request, by its key, had started it before."""

    run: Run
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Something that happened in a run. ``position`` continues the stream after it."""

    position: str
    what: RunSummary | StepRun | LogLine


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A run that is continued. ``position`` is where :meth:`Service.follow` tells what happens since."""

    run: RunSummary
    position: str


@dataclass(frozen=True, kw_only=True)
class SentRequest:
    """An HTTP request of another system. ``headers`` are as they came; ``query`` is what stands behind the ``?``."""

    method: str
    headers: Sequence[tuple[str, str]]
    query: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a service takes work. ``checks`` are by name None, or what is wrong."""

    checks: Mapping[str, str | None]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.checks.values())


Target: TypeAlias = str | FlowText
"""A flow that is known, by its name, or one that is handed over."""
