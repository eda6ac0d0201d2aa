"""The definition models every flow shares: the flow itself, and what all steps and all triggers have in common.

The kinds' own models live with their kinds (``steps/``, ``triggers/``) and derive from :class:`StepConfig` and
:class:`TriggerConfig`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny

from flows.values import Duration, Json


class Config(BaseModel):
    """Base of all definition models: unknown keys are refused, values are immutable, YAML names are aliases."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True, defer_build=True)


class CodeFile(Config):
    """Code kept beside the flow."""

    file: str
    """Path relative to the directory of the flow; it can't leave it."""
    _source: str = PrivateAttr(default="")

    @property
    def source(self) -> str:
        """The text of the file, which the loader has read."""
        return self._source

    def with_source(self, source: str) -> Self:
        """The same file with its text."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001 - its own
        return copy


class Retry(Config):
    """Make further attempts where one did not succeed."""

    attempts: int = Field(default=3, ge=1, le=100)
    """Attempts in all, the first included."""
    delay: Duration = 1.0
    """Time before the second attempt."""
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    """How the delay grows: the same, 1 2 3 times, or 1 2 4 times."""
    max_delay: Duration = 300.0
    """The longest delay between two attempts."""
    jitter: bool = True
    """Make each delay up to half longer or shorter at random, so that many retries don't meet."""
    on: list[Literal["error", "timeout", "out_of_memory", "limit_exceeded", "killed"]] = Field(
        default_factory=lambda: ["error", "timeout"]  # type: ignore[arg-type]
    )
    """Which outcomes are worth another attempt."""


class ForEach(Config):
    """Run the step once for each item of a list."""

    in_: str | list[Json] = Field(alias="in")
    """The list, or an expression that gives one."""
    as_: str = Field(default="item", alias="as")
    """The name by which expressions see the item."""
    concurrency: int = Field(default=1, ge=1, le=1000)
    """How many items run at once."""
    on_item_error: Literal["fail", "continue"] = "fail"
    """Whether one failed item fails the step or leaves a null in the results."""


class Cache(Config):
    """Reuse the result of an earlier run of the same step with the same code and inputs."""

    ttl: Duration
    """How long a result stays good."""


class StepConfig(Config):
    """What every step has, whatever its kind."""

    id: str
    """The name by which other steps and expressions refer to it."""
    name: str | None = None
    """What people see; left out: the id."""
    needs: list[str] | None = None
    """Ids of the steps that must end first; left out: the step before; []: none."""
    if_: str | bool | None = Field(default=None, alias="if")
    """A condition in CEL: where it says no, the step is skipped."""
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    """The step's inputs; may hold expressions at any depth."""
    for_each: ForEach | None = None
    """Run it for each item of a list."""
    retry: Retry | None = None
    """Make further attempts where one did not succeed."""
    timeout: Duration | None = None
    """How long one attempt may take, everything included."""
    on_error: Literal["fail", "continue"] = "fail"
    """Whether its failure fails the run."""
    cache: Cache | None = None
    """Reuse an earlier result."""


class TriggerConfig(Config):
    """What every trigger has, whatever its kind."""

    id: str
    """The trigger's name in the flow."""
    if_: str | bool | None = Field(default=None, alias="if")
    """A condition in CEL on the ``event``: where it says no, no run starts."""
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    """The flow's inputs; may hold expressions over ``event``."""


class Concurrency(Config):
    """How many runs of the flow go on at once."""

    limit: int = Field(default=1, ge=1)
    """Runs at once."""
    key: str | None = None
    """An expression: runs with different values don't count against each other."""
    policy: Literal["queue", "skip", "cancel_running"] = "queue"
    """What a run beyond the limit does: wait, not start, or cancel the one that runs."""


class Defaults(Config):
    """Values for the steps that don't say otherwise."""

    retry: Retry | None = None
    """As ``retry`` of a step; not for those that wait."""
    timeout: Duration | None = None
    """As ``timeout`` of a step; not for those that wait."""
    limits: dict[str, Json] = Field(default_factory=dict)
    """As ``limits`` of a code step."""


class Flow(Config):
    """One automation. ``inputs`` are JSON Schemas by name; ``steps`` are of the registered kinds."""

    flow: str
    """The flow's name."""
    description: str | None = None
    """What the flow is for."""
    inputs: dict[str, dict[str, Json]] = Field(default_factory=dict)
    """JSON Schemas by name; an input with a ``default`` is optional."""
    triggers: list[SerializeAsAny[TriggerConfig]] = Field(default_factory=list)
    """What starts a run."""
    steps: list[SerializeAsAny[StepConfig]]
    """What a run does; a step needs the one before unless ``needs`` says otherwise."""
    output: Json = None
    """What the run gives; may hold expressions over ``steps``."""
    concurrency: Concurrency | None = None
    """How many runs go on at once."""
    on_failure: list[SerializeAsAny[StepConfig]] = Field(default_factory=list)
    """Steps that run after a failed run."""
    finally_: list[SerializeAsAny[StepConfig]] = Field(default_factory=list, alias="finally")
    """Steps that run at the end in any case."""
    defaults: Defaults = Field(default_factory=Defaults)
    """Values for the steps that don't say otherwise."""
    timeout: Duration | None = None
    """How long the whole run may take."""
    expose: bool = False
    """Offer the flow as a tool to agents over MCP."""
