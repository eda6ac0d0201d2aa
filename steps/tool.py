"""Steps of ``tool``: one call of a tool, whose arguments are ``with``."""

from collections.abc import Iterator, Mapping

from flows.contracts import Catalogue, Finding, StepCall, StepError, StepResult, ToolSpec
from flows.errors import RefusedError, StepboxError
from flows.expressions import root_names
from flows.model import StepConfig
from flows.schemas import mismatches
from flows.suggestions import closest, listing
from flows.templates import is_wired, texts
from flows.values import Json, StepStatus, json_size
from steps.sandbox.limits import Limits
from steps.sandboxed import unknown_tool

MAX_RESULT = Limits().result


class ToolStep(StepConfig):
    """One call of a tool; the step's result is the tool's."""

    tool: str
    """The full name: ``provider.tool``."""


def check_tool(config: StepConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """Whether there is such a tool, and whether it takes the arguments as far as they are known."""
    assert isinstance(config, ToolStep)
    spec = catalogue.get(config.tool)
    if spec is None or spec.name != config.tool:
        finding = unknown_tool(config.tool, ("tool",), catalogue)
        if finding is not None:
            yield finding
    if spec is not None:
        yield from _arguments(config.with_, spec)
        if spec.in_store:
            yield from _secrets(config.with_, spec)


def _secrets(given: Mapping[str, Json], spec: ToolSpec) -> Iterator[Finding]:
    for name, value in given.items():
        if any("secrets" in root_names(text) for text in texts(value)):
            message = f"`{spec.name}` keeps its arguments in the database, where a secret would be for all to read"
            fix = "give secrets to tools that use them, such as `http.request`"
            yield Finding(path=("with", name), code="secret_not_allowed", message=message, fix=fix)


def _arguments(given: Mapping[str, Json], spec: ToolSpec) -> Iterator[Finding]:
    schema = spec.arguments
    declared = schema.get("properties")
    properties: Mapping[str, Json] = declared if isinstance(declared, Mapping) else {}
    closed = schema.get("additionalProperties") is False
    for name, value in given.items():
        path = ("with", name)
        match = closest(name, properties)
        if name not in properties:
            if closed or (match is not None and match not in given and "additionalProperties" not in schema):
                takes = f"it takes {listing(properties)}" if properties else "it takes none"
                fix = f"did you mean `{match}`?" if match is not None else f"remove it; {takes}"
                message = f"`{spec.name}` has no argument `{name[:80]}`"
                yield Finding(path=path, code="unknown_argument", message=message, fix=fix, at="key")
        elif isinstance(properties[name], Mapping) and not is_wired(value):
            for each in mismatches(properties[name], value):
                message = f"argument `{name}` of `{spec.name}`: {each.message}"
                yield Finding(path=(*path, *each.path), code="wrong_argument", message=message, fix=each.fix)
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in given:
            message = f"`{spec.name}` requires the argument `{name}`"
            place = "with" if given else "tool"
            fix = f"add `{name}: …` to `with:`"
            yield Finding(path=(place,), code="missing_argument", message=message, fix=fix, at="key")


class ToolExecutor:
    """Makes the call (:class:`flows.contracts.StepExecutor`)."""

    isolation = None

    async def refusal(self, config: StepConfig) -> RefusedError | None:  # noqa: ARG002 - the tool's own policy decides
        """Nothing: each call is judged as it is made."""
        return None

    def expect(self, config: StepConfig, count: int) -> None:
        """Do nothing: a call needs nothing made ready."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        """Call the tool once.

        A call that can't be made, or fails, is a failed step with the tool's error.
        """
        if not isinstance(config, ToolStep):
            raise TypeError(f"{type(config).__name__} is no step of a tool")
        try:
            result = await call.call_tool(config.tool, dict(call.inputs))
        except StepboxError as problem:
            return StepResult(status=StepStatus.FAILED, error=StepError.of(problem), tool_calls=1)
        size = json_size(result)
        if size <= MAX_RESULT:
            return StepResult(status=StepStatus.SUCCEEDED, result=result, tool_calls=1)
        error = StepError(
            code="result_too_large",
            message=f"the result of {config.tool} is {size} bytes of JSON, the limit is {MAX_RESULT}",
            fix="ask the tool for less, or call it from a code step that gives only what is needed",
        )
        return StepResult(status=StepStatus.LIMIT_EXCEEDED, error=error, tool_calls=1)
