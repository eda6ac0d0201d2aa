"""The definition models every flow shares: the flow itself, and what all steps and all triggers have in common.

The kinds' own models live with their kinds (``steps/``, ``triggers/``) and derive from :class:`StepConfig` and
:class:`TriggerConfig`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny

from flows.values import Duration, Json


class Config(BaseModel):
    """Base of all definition models: unknown keys are refused, values are immutable, YAML names are aliases."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, strict=True, defer_build=True
    )


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
    """Spread each delay at random between half of it and all of it, so that many retries don't meet."""
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
    name: str | None = None
    needs: list[str] | None = None
    """Ids of the steps that must end first; left out: the step before; []: none."""
    if_: str | bool | None = Field(default=None, alias="if")
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")
    for_each: ForEach | None = None
    retry: Retry | None = None
    timeout: Duration | None = None
    """How long one attempt may take, everything included."""
    on_error: Literal["fail", "continue"] = "fail"
    cache: Cache | None = None


class TriggerConfig(Config):
    """What every trigger has, whatever its kind."""

    id: str
    if_: str | bool | None = Field(default=None, alias="if")
    with_: dict[str, Json] = Field(default_factory=dict, alias="with")


class Concurrency(Config):
    """How many runs of the flow go on at once."""

    limit: int = Field(default=1, ge=1)
    key: str | None = None
    """An expression: runs with different values don't count against each other."""
    policy: Literal["queue", "skip", "cancel_running"] = "queue"


class Defaults(Config):
    """Values for the steps that don't say otherwise."""

    retry: Retry | None = None
    timeout: Duration | None = None
    limits: dict[str, Json] = Field(default_factory=dict)
    """As ``limits`` of a code step."""


class Flow(Config):
    """One automation. ``inputs`` are JSON Schemas by name; ``steps`` are of the registered kinds."""

    flow: str
    description: str | None = None
    inputs: dict[str, dict[str, Json]] = Field(default_factory=dict)
    triggers: list[SerializeAsAny[TriggerConfig]] = Field(default_factory=list)
    steps: list[SerializeAsAny[StepConfig]]
    output: Json = None
    concurrency: Concurrency | None = None
    on_failure: list[SerializeAsAny[StepConfig]] = Field(default_factory=list)
    finally_: list[SerializeAsAny[StepConfig]] = Field(default_factory=list, alias="finally")
    defaults: Defaults = Field(default_factory=Defaults)
    timeout: Duration | None = None
    expose: bool = False
    """Offer the flow as a tool to agents over MCP."""
