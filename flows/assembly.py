"""A flow put together from its plain value: models, graph and every check, with all findings kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flows.contracts import Catalogue, Finding, Registry, StepKind, Wiring
from flows.document import Path
from flows.explanations import type_name
from flows.graph import Graph, Node, build_graph
from flows.inputs import check_inputs
from flows.kinds import beneath, parse_model, parse_step
from flows.model import CodeFile, Config, Flow, StepConfig, TriggerConfig
from flows.names import name_finding
from flows.references import FUNCTIONS
from flows.starts import assemble_triggers
from flows.templates import OPENING
from flows.values import Json
from flows.wiring import HANDLER_RUN_ATTRIBUTES, ROOTS, RUN_ATTRIBUTES, Scope, check_wiring

LISTS = ("steps", "on_failure", "finally")
"""The keys of a flow that hold steps, in the order in which they may run."""
MAX_STEPS = 1_000

_Names = Mapping[str, tuple[str, ...] | None]


@dataclass(kw_only=True)
class Step:
    """One step on its way to its model: ``id`` is None where it is missing, wrong or taken."""

    path: Path
    data: Json
    id: str | None = None
    kind: StepKind | None = None
    config: StepConfig | None = None


@dataclass(kw_only=True)
class Assembly:
    """What came of the value. ``flow`` is None where it couldn't be made; ``steps`` are those of all three lists."""

    flow: Flow | None = None
    findings: list[Finding] = field(default_factory=list)
    steps: list[StepConfig] = field(default_factory=list)
    kinds: dict[str, StepKind] = field(default_factory=dict)
    trigger_kinds: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    limits: Config | None = None


def assemble(
    data: Json, registry: Registry, catalogue: Catalogue, file: Callable[[str, Path], str | Finding]
) -> Assembly:
    """Put a flow together. ``file`` gives the text of a file named at a path of the flow, or why there is none."""
    assembly = Assembly()
    if not isinstance(data, Mapping):
        message = f"a flow must be a mapping, but is {type_name(data)}"
        finding = Finding(path=(), code="wrong_type", message=message, fix="begin with `flow: <name>` and `steps:`")
        assembly.findings.append(finding)
        return assembly
    lists = {key: _steps(data[key], key, registry, assembly) for key in LISTS if isinstance(data.get(key), list)}
    _ids(lists, assembly)
    for step in (step for steps in lists.values() for step in steps):
        _code_files(step, file, assembly)
    inputs = data.get("inputs")
    ids = frozenset(step.id for step in lists.get("steps", ()) if step.id is not None)
    triggers = assemble_triggers(data.get("triggers"), inputs if isinstance(inputs, Mapping) else {}, ids, registry)
    assembly.findings += triggers.findings
    assembly.trigger_kinds = triggers.kinds
    _flow(data, lists, triggers.configs, assembly)
    _limits(data, registry, assembly)
    graphs = {key: _graph(steps, assembly) for key, steps in lists.items()}
    known = frozenset(step.id for steps in lists.values() for step in steps if step.id is not None)
    _step_checks(lists, graphs, catalogue, data, assembly)
    ended = frozenset(graphs["steps"].needs) if "steps" in graphs else known
    assembly.findings += _flow_wiring(data, known, ended)
    return assembly


def _input_names(data: Mapping[str, Json]) -> tuple[str, ...]:
    inputs = data.get("inputs")
    return tuple(inputs) if isinstance(inputs, Mapping) else ()


def _steps(items: list[Json], key: str, registry: Registry, assembly: Assembly) -> list[Step]:
    if len(items) > MAX_STEPS:
        message = f"`{key}` has more than {MAX_STEPS:,} steps"
        finding = Finding(
            path=(key, MAX_STEPS), code="too_many_steps", message=message, fix="use for_each, or subflows"
        )
        assembly.findings.append(finding)
    steps = []
    for position, item in enumerate(items[:MAX_STEPS]):
        kind, config, findings = parse_step(item, (key, position), registry)
        assembly.findings += findings
        steps.append(Step(path=(key, position), data=item, kind=kind, config=config))
    return steps


def _ids(lists: Mapping[str, list[Step]], assembly: Assembly) -> None:
    taken: dict[str, Path] = {}
    for step in (step for steps in lists.values() for step in steps):
        name = step.data.get("id") if isinstance(step.data, Mapping) else None
        if not isinstance(name, str):
            continue
        path = (*step.path, "id")
        if (finding := name_finding(name, path, "a step")) is not None:
            assembly.findings.append(finding)
        elif name in taken:
            message = f"there is already a step `{name}`"
            fix = "give each step of steps, on_failure and finally an id of its own"
            assembly.findings.append(Finding(path=path, code="duplicate_id", message=message, fix=fix))
        else:
            taken[name] = step.path
            step.id = name


def _code_files(step: Step, file: Callable[[str, Path], str | Finding], assembly: Assembly) -> None:
    """Read the files that the step names; without one of them its model isn't kept."""
    config = step.config
    for name in type(config).model_fields if config is not None else ():
        value = getattr(config, name)
        if not isinstance(value, CodeFile):
            continue
        text = file(value.file, (*step.path, name, "file"))
        if isinstance(text, Finding):
            assembly.findings.append(text)
            step.config = None
            return
        step.config = step.config.model_copy(update={name: value.with_source(text)}) if step.config else None


def _flow(
    data: Mapping[str, Json], lists: Mapping[str, list[Step]], triggers: list[TriggerConfig], assembly: Assembly
) -> None:
    shell = dict(data)
    for key, steps in lists.items():
        shell[key] = [step.config for step in steps if step.config is not None]
    if isinstance(data.get("triggers"), list):
        shell["triggers"] = triggers
    assembly.flow = parse_model(Flow, shell, assembly.findings)
    if data.get("steps") == []:
        finding = Finding(path=("steps",), code="no_steps", message="a flow needs a step", fix="add one to `steps:`")
        assembly.findings.append(finding)
    name = data.get("flow")
    if isinstance(name, str) and (invalid := name_finding(name, ("flow",), "a flow")) is not None:
        assembly.findings.append(invalid)
    inputs = data.get("inputs")
    if isinstance(inputs, Mapping):
        schemas = {key: schema for key, schema in inputs.items() if isinstance(schema, Mapping)}
        assembly.findings += check_inputs(schemas)


def _limits(data: Mapping[str, Json], registry: Registry, assembly: Assembly) -> None:
    defaults = data.get("defaults")
    limits = defaults.get("limits") if isinstance(defaults, Mapping) else None
    model = next((kind.limits for kind in registry.steps.values() if kind.limits is not None), None)
    if isinstance(limits, Mapping) and model is not None:
        assembly.limits = parse_model(model, limits, assembly.findings, ("defaults", "limits"))


def _graph(steps: list[Step], assembly: Assembly) -> Graph:
    nodes = []
    for step in steps:
        needs = step.data.get("needs") if isinstance(step.data, Mapping) else None
        if step.id is not None:
            written = tuple(str(need) for need in needs) if isinstance(needs, list) else None
            nodes.append(Node(id=step.id, needs=written, path=step.path))
    graph, findings = build_graph(nodes)
    assembly.findings += findings
    assembly.needs |= graph.needs
    assembly.order = assembly.order or graph.order
    return graph


def _step_checks(
    lists: Mapping[str, list[Step]],
    graphs: Mapping[str, Graph],
    catalogue: Catalogue,
    data: Mapping[str, Json],
    assembly: Assembly,
) -> None:
    inputs, flow_name = _input_names(data), data.get("flow")
    before: frozenset[str] = frozenset()
    known = frozenset(step.id for steps in lists.values() for step in steps if step.id is not None)
    for key, steps in lists.items():
        graph = graphs[key]
        run = RUN_ATTRIBUTES if key == "steps" else HANDLER_RUN_ATTRIBUTES
        names: _Names = {"inputs": inputs, "steps": None, "event": None, "trigger": None, "run": run}
        for step in steps:
            scope = _scope(step, graph, before, known, names)
            if isinstance(step.data, Mapping):
                assembly.findings += check_wiring(step.data, step.path, scope)
                assembly.findings += _for_each(step)
            if step.kind is None or step.config is None:
                continue
            assembly.findings += (beneath(each, step.path) for each in step.kind.check(step.config, catalogue))
            assembly.findings += _named_steps(step, step.kind, step.config, scope)
            if flow_name is not None and step.kind.flow(step.config) == flow_name:
                message, fix = f"the flow `{flow_name}` runs itself", "use for_each, or name another flow"
                path = (*step.path, step.kind.key)
                assembly.findings.append(Finding(path=path, code="recursive_flow", message=message, fix=fix))
            if step.id is not None:
                assembly.steps.append(step.config)
                assembly.kinds[step.id] = step.kind
        before |= frozenset(graph.needs)


def _scope(step: Step, graph: Graph, before: frozenset[str], known: frozenset[str], names: _Names) -> Scope:
    each = step.data.get("for_each") if isinstance(step.data, Mapping) else None
    item: dict[str, tuple[str, ...] | None] = {}
    if isinstance(each, Mapping):
        alias = each.get("as", "item")
        item = {alias if isinstance(alias, str) else "item": None, "index": None}
    secrets: _Names = {"secrets": None} if step.kind is not None and step.kind.secrets else {}
    own = step.kind.wiring if step.kind is not None else ()
    fields = (
        (Wiring(path=("with",)), {**item, **secrets}),
        (Wiring(path=("if",), condition=True), {}),
        (Wiring(path=("for_each", "in")), {}),
        *((wiring, {**item, **dict.fromkeys(wiring.names)}) for wiring in own),
    )
    determined = step.id is not None and step.id in graph.ancestors
    visible = before | graph.ancestors[step.id] if determined and step.id is not None else known
    after = frozenset(name for name, ancestors in graph.ancestors.items() if step.id in ancestors)
    code = step.kind.code if step.kind is not None else frozenset()
    needs = graph.needs.get(step.id, ()) if step.id is not None else ()
    return Scope(
        names=names, visible=visible, known=known, after=after, own=step.id, needs=needs, code=code, fields=fields
    )


def _for_each(step: Step) -> Iterator[Finding]:
    each = step.data.get("for_each")
    if not isinstance(each, Mapping):
        return
    items, alias = each.get("in"), each.get("as")
    if isinstance(items, str) and OPENING not in items:
        message = "`in` must be a list or an expression that gives one"
        fix = f"write `${{{{ {items[:80]} }}}}`"
        yield Finding(path=(*step.path, "for_each", "in"), code="expected_expression", message=message, fix=fix)
    if isinstance(alias, str):
        path = (*step.path, "for_each", "as")
        if (finding := name_finding(alias, path, "an item")) is not None:
            yield finding
        elif alias in (ROOTS - {"item"}) | {name for name in FUNCTIONS if "." not in name}:
            message = f"`{alias}` already means something in expressions"
            yield Finding(path=path, code="name_clash", message=message, fix=f"write `{alias}_item`, or another name")


def _named_steps(step: Step, kind: StepKind, config: StepConfig, scope: Scope) -> Iterator[Finding]:
    """What is wrong with the steps that the step names outside expressions."""
    for path, name in kind.references(config):
        if name == "event" and name not in scope.known:
            # What came with the event that starts the run.
            continue
        text = f"${{{{ steps.{name} }}}}"
        field_scope = Scope(
            names=scope.names,
            visible=scope.visible,
            known=scope.known,
            after=scope.after,
            own=scope.own,
            needs=scope.needs,
            fields=((Wiring(path=()), {}),),
        )
        for finding in check_wiring(text, (), field_scope):
            yield Finding(path=(*step.path, *path), code=finding.code, message=finding.message, fix=finding.fix)


def _flow_wiring(data: Mapping[str, Json], known: frozenset[str], ended: frozenset[str]) -> Iterator[Finding]:
    names: _Names = {"inputs": _input_names(data), "event": None, "trigger": None, "run": RUN_ATTRIBUTES}
    whole: tuple[Wiring, _Names] = (Wiring(path=()), {})
    for key, value in data.items():
        if key == "output":
            scope = Scope(names={**names, "steps": None}, visible=ended, known=known, fields=(whole,))
            yield from check_wiring(value, (key,), scope)
        elif key not in (*LISTS, "triggers"):
            of_key = key == "concurrency"
            fields: tuple[tuple[Wiring, _Names], ...] = ((Wiring(path=("key",)), {}),) if of_key else ()
            seen = {name: names[name] for name in ("inputs", "event", "trigger")} if of_key else names
            yield from check_wiring(value, (key,), Scope(names=seen, known=known, fields=fields))
    concurrency = data.get("concurrency")
    by = concurrency.get("key") if isinstance(concurrency, Mapping) else None
    if isinstance(by, str) and OPENING not in by:
        message = "`key` is the same for every run"
        fix = f"write an expression, such as `${{{{ {by[:80]} }}}}`, or leave it out"
        yield Finding(path=("concurrency", "key"), code="expected_expression", message=message, fix=fix)
