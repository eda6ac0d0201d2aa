"""The triggers of a flow put together: models, ids, what they give the flow's inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flows.contracts import Finding, Registry, TriggerKind, Wiring
from flows.document import Path
from flows.kinds import beneath, parse_trigger
from flows.model import TriggerConfig
from flows.names import name_finding
from flows.schemas import check_schema, mismatches
from flows.suggestions import instead, listing
from flows.templates import OPENING
from flows.values import Json
from flows.wiring import RUN_ATTRIBUTES, Scope, check_wiring


@dataclass(kw_only=True)
class Triggers:
    """What came of the list of triggers; ``kinds`` is the key of each one's kind by its id."""

    configs: list[TriggerConfig] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def assemble_triggers(items: Json, inputs: Mapping[str, Json], steps: frozenset[str], registry: Registry) -> Triggers:
    """Put the triggers together; ``inputs`` are the schemas of the flow's inputs as written, ``steps`` its ids."""
    triggers = Triggers()
    taken: set[str] = set()
    unique: set[tuple[str, str]] = set()
    for position, item in enumerate(items if isinstance(items, list) else ()):
        path: Path = ("triggers", position)
        kind, config, findings = parse_trigger(item, path, registry)
        triggers.findings += findings
        if not isinstance(item, Mapping):
            continue
        triggers.findings += _id(item, path, taken)
        triggers.findings += check_wiring(item, path, _scope(kind, tuple(inputs), steps))
        triggers.findings += _given(item, path, inputs, kind)
        if kind is None or config is None:
            continue
        triggers.findings += (beneath(finding, path) for finding in kind.check(config))
        triggers.findings += _shared(kind, config, path, unique)
        triggers.configs.append(config)
        triggers.kinds[config.id] = kind.key
    return triggers


def _id(item: Mapping[str, Json], path: Path, taken: set[str]) -> Iterator[Finding]:
    name = item.get("id")
    if not isinstance(name, str):
        return
    if (finding := name_finding(name, (*path, "id"), "a trigger")) is not None:
        yield finding
    elif name in taken:
        message = f"there is already a trigger `{name}`"
        yield Finding(path=(*path, "id"), code="duplicate_id", message=message, fix="give each trigger its own id")
    taken.add(name)


def _shared(kind: TriggerKind, config: TriggerConfig, path: Path, unique: set[tuple[str, str]]) -> Iterator[Finding]:
    value = kind.unique(config)
    if value is None:
        return
    if (kind.key, value) in unique:
        message = f"another {kind.key} of this flow has `{value}` too"
        yield Finding(path=(*path, kind.key), code="duplicate_trigger", message=message, fix="give each its own")
    unique.add((kind.key, value))


def _scope(kind: TriggerKind | None, inputs: tuple[str, ...], steps: frozenset[str]) -> Scope:
    names: Mapping[str, tuple[str, ...] | None] = {"event": None, "trigger": None}
    run: Mapping[str, tuple[str, ...] | None] = {"inputs": inputs, "steps": None, "run": RUN_ATTRIBUTES, "output": None}
    own = kind.wiring if kind is not None else ()
    fields = (
        (Wiring(path=("with",)), {}),
        (Wiring(path=("if",), condition=True), {}),
        *((wiring, {**dict.fromkeys(wiring.names), **(run if wiring.run else {})}) for wiring in own),
    )
    return Scope(names=names, visible=steps, known=steps, fields=fields)


def _given(
    item: Mapping[str, Json], path: Path, inputs: Mapping[str, Json], kind: TriggerKind | None
) -> Iterator[Finding]:
    """What is wrong with the inputs that the trigger gives, or doesn't."""
    given = item.get("with", {})
    if not isinstance(given, Mapping):
        return
    for name, value in given.items():
        at = (*path, "with", name)
        if name not in inputs:
            otherwise = f"known: {listing(inputs)}" if inputs else "declare it under `inputs:`"
            fix = instead(name, inputs, otherwise=otherwise)
            message = f"the flow has no input `{name[:80]}`"
            yield Finding(path=at, code="unknown_input", message=message, fix=fix, at="key")
        elif not _has_expression(value):
            schema = inputs[name]
            if isinstance(schema, Mapping) and not any(check_schema(schema)):
                for each in mismatches(schema, value):
                    message = f"input `{name}`: {each.message}"
                    yield Finding(path=(*at, *each.path), code="wrong_input", message=message, fix=each.fix)
    if kind is None or kind.asks_inputs:
        return
    for name, schema in inputs.items():
        if name not in given and isinstance(schema, Mapping) and "default" not in schema:
            message = f"the trigger gives no `{name}`, which the flow requires"
            fix = f"add `with: {{{name}: …}}`, or give the input a default"
            yield Finding(path=path, code="missing_input", message=message, fix=fix)


def _has_expression(value: Json) -> bool:
    if isinstance(value, Mapping):
        return any(_has_expression(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_expression(item) for item in value)
    return isinstance(value, str) and OPENING in value
