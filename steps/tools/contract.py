"""What a tool is, what a call of one may use, and how it fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from flows.contracts import ToolSpec
from flows.errors import StepboxError
from flows.values import Json
from steps.addresses import Address, Endpoint, Resolver, permitted_addresses, resolve
from steps.ceilings import NO_CEILINGS, Ceilings
from steps.tools.content import WorkspaceContent
from steps.tools.events import EventOutlet


class ToolError(StepboxError):
    """A call of a tool that did not give a result. Code sees ``code`` and the message.

    ``uncertain``: it may have done what it was to do all the same, so that made again it has the same idempotency key.
    """

    code = "tool_failed"
    uncertain: ClassVar[bool] = False


class UnknownToolError(ToolError):
    """There is no tool of that name, or more than one that a short name could mean."""

    code = "unknown_tool"
    exit_status = 2


class NotGrantedError(ToolError):
    """The tool exists, but the step may not call it."""

    code = "not_granted"


class InvalidArgumentsError(ToolError):
    """The arguments don't match the tool's schema, or mean nothing; the message names every problem."""

    code = "invalid_arguments"


class NotFoundError(ToolError):
    """What the arguments name doesn't exist."""

    code = "not_found"


class AlreadyExistsError(ToolError):
    """What is to be created exists."""

    code = "already_exists"


class TooLargeError(ToolError):
    """What would be read or written is over the tool's limit."""

    code = "too_large"


class EgressDeniedError(ToolError):
    """Policy doesn't let the call reach that destination."""

    code = "egress_denied"


@dataclass(frozen=True, kw_only=True)
class ToolServices:
    """What the built-in tools work with. Built once, by the engine.

    ``shared`` is the root of the ``files.*`` tools: a directory, or an fsspec URL such as ``s3://bucket/prefix``.
    ``internal`` lists the destinations that may be reached though they aren't public. ``ca_file`` holds certificates
    (PEM) of authorities to trust besides the usual ones. ``docker`` are the variables that say where the Docker Engine
    is, and ``runtime`` the one that its containers are to have; None: its default. ``events`` keeps what steps tell of;
    None: nothing does.
    """

    content: WorkspaceContent
    shared: str
    internal: frozenset[Endpoint] = frozenset()
    resolver: Resolver = resolve
    ca_file: Path | None = None
    docker: Mapping[str, str] = field(default_factory=dict)
    runtime: str | None = None
    events: EventOutlet | None = None


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """Who calls a tool, and with what.

    ``idempotency_key`` is the same when the same call is made again after a crash. ``host_directories`` are the
    directories of this machine from which the call may import files: empty for code in a sandbox, the flow's own
    directory for a flow's tool steps. ``ceilings`` are those of the workspace now.
    """

    services: ToolServices
    workspace: str
    run_id: str
    step_id: str
    item: int | None = None
    attempt: int = 1
    idempotency_key: str
    host_directories: tuple[Path, ...] = field(default=())
    ceilings: Ceilings = NO_CEILINGS

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses of a host that the call may connect to; see :func:`steps.addresses.permitted_addresses`.

        Every tool that reaches a host which its caller names asks here, for each host anew.

        Raises:
            EgressDeniedError: the policy of the workspace denies the domain.
            StepboxError: as there.
        """
        pattern = self.ceilings.denied.denied_by(host)
        if pattern is not None:
            raise EgressDeniedError(
                f"the policy of the workspace denies {host}",
                fix=f"an admin of the workspace denies `{pattern}`: stepbox policy show",
            )
        internal = self.services.internal | self.ceilings.internal
        return await permitted_addresses(host, port, internal=internal, resolver=self.services.resolver)


class Tool(Protocol):
    """One tool. Third parties offer theirs by the entry point group ``stepbox.tools``, named as ``spec.name``."""

    @property
    def spec(self) -> ToolSpec: ...
    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        """Make the call. ``arguments`` match ``spec.arguments``.

        Raises:
            ToolError: it gave no result.
        """
