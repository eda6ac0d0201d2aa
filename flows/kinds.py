"""From a mapping to the model of its kind: which kind it is, and what is wrong with it."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from flows.contracts import Finding, Registry, StepKind, TriggerKind
from flows.document import Path
from flows.explanations import explain, known_keys, type_name, unknown_key
from flows.model import StepConfig, TriggerConfig
from flows.suggestions import closest, listing
from flows.values import Json

_Model = TypeVar("_Model", bound=BaseModel)


def parse_model(model: type[_Model], data: Json, findings: list[Finding], path: Path = ()) -> _Model | None:
    """The model of a mapping, by its names in YAML; or None, with what is wrong added to ``findings``."""
    try:
        return model.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        findings += (beneath(finding, path) for finding in explain(error, model, data))
        return None


def parse_step(data: Json, path: Path, registry: Registry) -> tuple[StepKind | None, StepConfig | None, list[Finding]]:
    """The kind and model of a step, as far as they can be told, and what is wrong with it.

    Where something is wrong, the model is that of the keys which are right, so that those are checked in full too.
    """
    if not isinstance(data, Mapping):
        return None, None, [_not_a_mapping(path, data, "step", "- id: …")]
    kind, findings = _kind(data, path, registry.steps, "step", known_keys(StepConfig))
    if kind is not None:
        config = parse_model(kind.config, data, findings, path)
        if config is None:
            wrong = {finding.path[len(path)] for finding in findings if len(finding.path) > len(path)}
            config = _without(wrong, kind.config, data)
        return kind, config, findings
    findings += _common_findings(StepConfig, data, path, frozenset(registry.steps))
    return None, None, findings


def parse_trigger(
    data: Json, path: Path, registry: Registry
) -> tuple[TriggerKind | None, TriggerConfig | None, list[Finding]]:
    """The kind and model of a trigger, as far as they can be told, and what is wrong with it."""
    if not isinstance(data, Mapping):
        return None, None, [_not_a_mapping(path, data, "trigger", "- id: …")]
    kind, findings = _kind(data, path, registry.triggers, "trigger", known_keys(TriggerConfig))
    if kind is not None:
        return kind, parse_model(kind.config, data, findings, path), findings
    findings += _common_findings(TriggerConfig, data, path, frozenset(registry.triggers))
    return None, None, findings


def _without(wrong: set[str | int], model: type[StepConfig], data: Mapping[str, Json]) -> StepConfig | None:
    """The model of what is left without the wrong keys; None where too little is."""
    if "with" in wrong:
        return None
    return parse_model(model, {key: value for key, value in data.items() if key not in wrong}, [])


def beneath(finding: Finding, path: Path) -> Finding:
    """The same finding, its path beginning with ``path``."""
    if not path:
        return finding
    return Finding(
        path=(*path, *finding.path),
        code=finding.code,
        message=finding.message,
        fix=finding.fix,
        at=finding.at,
        line=finding.line,
        column=finding.column,
    )


_Kind = TypeVar("_Kind", StepKind, TriggerKind)


def _kind(
    data: Mapping[str, Json], path: Path, table: Mapping[str, _Kind], what: str, common: tuple[str, ...]
) -> tuple[_Kind | None, list[Finding]]:
    keys = [key for key in data if key in table]
    if len(keys) == 1:
        return table[keys[0]], []
    name = f"{what} `{data['id'][:80]}`" if isinstance(data.get("id"), str) else f"this {what}"
    if keys:
        message = f"{name} is of several kinds: {listing(keys)}"
        fix = f"make a {what} of each, or remove all but one"
        return None, [Finding(path=(*path, keys[1]), code="several_kinds", message=message, fix=fix, at="key")]
    unknown = [key for key in data if key not in common]
    for key in unknown:
        if (match := closest(key, table)) is not None:
            message = f"there is no {what} of kind `{key[:80]}`"
            fix = f"did you mean `{match}`?"
            return None, [Finding(path=(*path, key), code="unknown_key", message=message, fix=fix, at="key")]
    fix = f"add one of {listing(table)}"
    return None, [Finding(path=path, code="missing_kind", message=f"{name} has no kind", fix=fix)]


def _common_findings(
    model: type[BaseModel], data: Mapping[str, Json], path: Path, kinds: frozenset[str]
) -> Iterator[Finding]:
    """What is wrong with the keys that every kind has; what belongs to a kind can't be told."""
    findings: list[Finding] = []
    parse_model(model, {key: value for key, value in data.items() if key in known_keys(model)}, findings, path)
    yield from findings
    unknown = [key for key in data if key not in known_keys(model) and key not in kinds]
    for key in unknown:
        if closest(key, kinds) is None and closest(key, known_keys(model)) is not None:
            yield unknown_key((*path, key), model)


def _not_a_mapping(path: Path, data: Json, what: str, example: str) -> Finding:
    message = f"a {what} must be a mapping, but is {type_name(data)}"
    return Finding(path=path, code="wrong_type", message=message, fix=f"begin it with `{example}`")
