"""What a workspace lets its steps have at most, as the steps see it: limits, networks, domains, images, isolation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Protocol

from flows.contracts import Finding, Isolation
from flows.errors import RefusedError
from flows.model import StepConfig
from steps.addresses import Endpoint
from steps.code import CodeStep
from steps.denied_domains import NONE_DENIED, DeniedDomains
from steps.image import ImageStep
from steps.image_reference import ImagePattern, ImageReference, may_be_an_id
from steps.sandbox.limits import default_limits
from steps.sandboxed import Allow, SandboxConfig

STRENGTH: Final[Mapping[Isolation, int]] = {"jail": 1, "container": 2}
NETWORKS: Final = ("none", "allow", "full")
"""The modes of a step's network, from the narrowest on."""
WHO: Final = "an admin of the workspace can change the policy: stepbox policy set"

_UNITS: Final = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_IN_BYTES: Final = frozenset({"memory", "disk", "output", "transfer", "artifacts", "code", "result"})


class PolicyRefusedError(RefusedError):
    """The policy of the workspace doesn't let a step have what it asks for; nothing of it has run."""

    code = "refused_by_policy"


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What a workspace's policy says of steps; made without arguments, it allows everything.

    ``limits`` are ceilings by the names of :class:`steps.sandbox.limits.Limits`, in its units. ``images`` None: all.
    ``approve_tools`` are patterns of the tools that a person is asked for before each call. ``internal`` are
    destinations that may be reached though not public, beside the installation's.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    min_isolation: Isolation | None = None
    networks: frozenset[str] = frozenset(NETWORKS)
    denied: DeniedDomains = NONE_DENIED
    images: tuple[ImagePattern, ...] | None = None
    approve_tools: tuple[str, ...] = ()
    internal: frozenset[Endpoint] = frozenset()

    def findings(self, step: StepConfig) -> Iterator[Finding]:
        """What a step asks for beyond the policy, each at its place."""
        if isinstance(step, SandboxConfig):
            yield from self._limits(step)
            yield from self._code(step)
            yield from self._network(step)
        if isinstance(step, ImageStep) and (why := self.image_problem(step.image)) is not None:
            yield _finding(("image",), f"the image {step.image} {why}", "use another image")

    def refusal(self, step: StepConfig, isolation: Isolation | None) -> PolicyRefusedError | None:
        """Why a step may not run, isolated by that; None: it may."""
        if isinstance(step, SandboxConfig) and isolation is not None and self.is_too_weak(isolation):
            return PolicyRefusedError(
                f"its code would run at the isolation level '{isolation}', and the policy of the workspace asks for "
                f"'{self.min_isolation}' at least",
                fix=f"choose a stronger runner by STEPBOX_RUNNER; {WHO}",
            )
        first = next(self.findings(step), None)
        return None if first is None else PolicyRefusedError(first.message, fix=first.fix)

    def is_too_weak(self, isolation: Isolation) -> bool:
        """Whether the policy asks for more than this isolation."""
        return self.min_isolation is not None and STRENGTH[isolation] < STRENGTH[self.min_isolation]

    def bounded(self, step: StepConfig) -> StepConfig:
        """The step with the ceiling as its limit wherever it has none of its own and the default would be above."""
        if not isinstance(step, SandboxConfig) or not self.limits:
            return step
        defaults = default_limits(step.language if isinstance(step, CodeStep) else "shell")
        lowered = {
            name: ceiling
            for name, ceiling in self.limits.items()
            if getattr(step.limits, name, 0) is None and ceiling < getattr(defaults, name)
        }
        return step.model_copy(update={"limits": step.limits.model_copy(update=lowered)}) if lowered else step

    def image_problem(self, reference: str) -> str | None:
        """Why an image may not be used, as the end of a sentence about it; None: it may."""
        if self.images is None:
            return None
        if may_be_an_id(reference):
            return "may be the id of any image: write its tag"
        image = ImageReference.parse(reference)
        if any(pattern.matches(image) for pattern in self.images):
            return None
        allowed = ", ".join(pattern.text for pattern in self.images) or "none"
        return f"is not among those that the policy of the workspace allows: {allowed}"

    def asks(self, tool: str) -> bool:
        """Whether a person is to be asked before each call of that tool, whatever the tool's own specification says."""
        return any(fnmatchcase(tool, pattern) for pattern in self.approve_tools)

    def _limits(self, step: SandboxConfig) -> Iterator[Finding]:
        for name, ceiling in self.limits.items():
            wanted = getattr(step.limits, name, None)
            if wanted is not None and wanted > ceiling:
                message = f"limits.{name} is {shown(name, wanted)}, and the policy of the workspace allows "
                message += f"{shown(name, ceiling)} at most"
                yield _finding(("limits", name), message, f"write {shown(name, ceiling)} or less")

    def _code(self, step: SandboxConfig) -> Iterator[Finding]:
        ceiling = self.limits.get("code")
        key, text = "", ""
        if isinstance(step, CodeStep):
            key, text = step.language, step.source
        elif isinstance(step, ImageStep) and step.run is not None:
            key, text = "run", step.run
        if ceiling is not None and (size := len(text.encode(errors="replace"))) > ceiling:
            message = f"the code is {shown('code', size)}, and the policy of the workspace allows "
            message += f"{shown('code', ceiling)} at most"
            yield _finding((key,), message, "split the step")

    def _network(self, step: SandboxConfig) -> Iterator[Finding]:
        network = step.network
        mode = network if isinstance(network, str) else "allow" if network.allow else "none"
        if mode != "none" and mode not in self.networks:
            allowed = ", ".join(each for each in NETWORKS if each == "none" or each in self.networks)
            message = f"the network is `{mode}`, and the policy of the workspace allows only: {allowed}"
            yield _finding(("network",), message, "write `network: none`")
        if isinstance(network, Allow):
            for position, entry in enumerate(network.allow):
                if (pattern := self.denied.denied_entry(entry)) is not None:
                    message = f"the policy of the workspace denies {entry} (by `{pattern}`)"
                    yield _finding(("network", "allow", position), message, "remove it")


NO_CEILINGS: Final = Ceilings()


class Rules(Protocol):
    """Says what a workspace lets its steps have, now."""

    async def ceilings(self, workspace: str) -> Ceilings: ...


class NoRules:
    """Lets every workspace have everything."""

    async def ceilings(self, workspace: str) -> Ceilings:  # noqa: ARG002 - the same for all
        return NO_CEILINGS


def shown(name: str, value: float) -> str:
    """A limit as people write it: ``30s``, ``128MB``, ``64``."""
    if name == "timeout":
        return f"{value:g}s"
    if name in _IN_BYTES:
        for unit, factor in _UNITS:
            if value >= factor and value % (factor / 1000) == 0:
                return f"{value / factor:g}{unit}"
        return f"{value:g}B"
    return f"{value:g}"


def _finding(path: tuple[str | int, ...], message: str, fix: str) -> Finding:
    return Finding(path=path, code=PolicyRefusedError.code, message=message, fix=f"{fix}; {WHO}")
