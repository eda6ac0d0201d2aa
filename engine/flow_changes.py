"""What applying flows would change."""

import difflib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from engine.flow_sources import NO_FLOWS, SiblingFlows
from engine.language import Language
from engine.plans import UnknownFlowError
from engine.records import FlowDetail, FlowVersion
from engine.service import AppliedFlow, FlowText
from flows.definition import Definition
from flows.errors import InvalidCallError, InvalidFlowError, Problem
from steps.subflow import SubflowStep


class FlowGivenTwiceError(InvalidCallError):
    """Two of the flows that are to be applied together have one name."""

    code = "flow_given_twice"


async def gather(flows: Sequence[FlowText], language: Language) -> dict[str, Definition]:
    """The definitions by name, with those of the subflows that lie beside them.

    Raises:
        InvalidFlowError: one or more are not valid; the problems of all of them.
        FlowGivenTwiceError: two have one name.
    """
    found: dict[str, Definition] = {}
    places: dict[str, FlowText] = {}
    problems: list[Problem] = []
    for flow in flows:
        try:
            definition = load(flow, language)
        except InvalidFlowError as invalid:
            problems.extend(invalid.problems)
            continue
        name = definition.flow.flow
        if name in found and found[name].digest != definition.digest:
            message = f"{places[name].path} and {flow.path} both hold the flow '{name}'"
            raise FlowGivenTwiceError(message, fix="give one of them, or rename one of the flows")
        found[name], places[name] = definition, flow
    if problems:
        raise InvalidFlowError(problems)
    for name, flow in places.items():
        if flow.directory is not None:
            await _add_siblings(found, found[name], SiblingFlows(flow.directory, language, NO_FLOWS))
    return found


def paths(flows: Sequence[FlowText], definitions: Mapping[str, Definition]) -> dict[str, str]:
    """What the files of the definitions are called, by name: of those that were given."""
    texts = {one.text: name for name, one in definitions.items()}
    read = ((flow.text.decode(errors="replace").removeprefix("\ufeff"), flow.path) for flow in flows)
    return {texts[text]: path for text, path in read if text in texts}


def load(flow: FlowText, language: Language) -> Definition:
    """The definition of a flow that is handed over. Raises :class:`flows.errors.InvalidFlowError`."""
    if flow.directory is None:
        return language.load_stored(flow.text, dict(flow.files), path=flow.path)
    return language.load_text(flow.text, path=flow.path, directory=flow.directory)


def subflows(definition: Definition) -> Iterator[str]:
    """The names of the flows that a flow starts itself."""
    for step in definition.steps.values():
        if isinstance(step, SubflowStep):
            yield step.flow


async def refuse_unknown(definitions: Mapping[str, Definition], is_known: Callable[[str], Awaitable[bool]]) -> None:
    """Make sure that every flow that one of these starts is among them or known.

    Raises:
        UnknownFlowError: one isn't.
    """
    for name, definition in definitions.items():
        for subflow in subflows(definition):
            if subflow not in definitions and not await is_known(subflow):
                raise UnknownFlowError(
                    f"flow '{name}' starts the flow '{subflow}', which is neither among these nor known",
                    fix=f"apply {subflow}.yaml with it",
                )


def change(
    definition: Definition, before: FlowDetail | None, *, version: int | None, approval: str | None = None
) -> AppliedFlow:
    """What applying a flow does. A draft that is applied as it is counts as created."""
    previous = None if before is None else before.version
    created = before is None or before.state == "draft"
    unchanged = previous is not None and previous.digest == definition.digest and not created
    return AppliedFlow(
        flow=definition.flow.flow,
        change="created" if created else "unchanged" if unchanged else "updated",
        version=version,
        previous=None if previous is None else previous.number,
        digest=definition.digest,
        approval=approval,
        diff="" if previous is None or unchanged else difference(previous, definition),
    )


async def _add_siblings(found: dict[str, Definition], definition: Definition, siblings: SiblingFlows) -> None:
    for name in subflows(definition):
        if name not in found and (subflow := await siblings.find(name)) is not None:
            found[name] = subflow
            await _add_siblings(found, subflow, siblings)


def difference(before: FlowVersion, after: Definition) -> str:
    """What changed in text and files, in the unified format."""
    return _diff(before.flow, _texts(before), _texts(after))


def _texts(of: Definition | FlowVersion) -> dict[str, str]:
    return {"": of.text, **of.files}


def _diff(flow: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    lines: list[str] = []
    for path in sorted({*before, *after}):
        shown = path or f"{flow}.yaml"
        old, new = before.get(path), after.get(path)
        lines += difflib.unified_diff(
            [] if old is None else old.splitlines(),
            [] if new is None else new.splitlines(),
            "/dev/null" if old is None else f"a/{shown}",
            "/dev/null" if new is None else f"b/{shown}",
            lineterm="",
        )
    return "\n".join(lines)
