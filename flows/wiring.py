"""Where expressions stand in a flow, and whether what they refer to can be there when they are evaluated."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flows.contracts import Finding, Wiring
from flows.document import Path
from flows.expressions import ExpressionSyntaxError, check_expression
from flows.names import NAME
from flows.references import FUNCTIONS, Lookup, Part, Reference
from flows.suggestions import instead, listing
from flows.templates import OPENING, Piece, TemplateError, condition_source, secret_of, split_template
from flows.values import Json

STEP_ATTRIBUTES = ("result", "status", "error", "artifacts")
RUN_ATTRIBUTES = ("id", "flow", "started_at")
HANDLER_RUN_ATTRIBUTES = (*RUN_ATTRIBUTES, "error")
"""Of ``run`` in ``on_failure`` and ``finally``."""
ROOTS = frozenset({"inputs", "steps", "event", "trigger", "run", "item", "index", "secrets", "output"})
"""Every name that an expression may begin with, somewhere."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an expression sees. ``names`` maps each root name to its known attributes, or None where they are open.

    ``visible`` are the ids of the steps that have ended; ``known`` all ids of the flow; ``after`` those that wait for
    the step ``own``; ``code`` the keys whose text is executed.
    """

    names: Mapping[str, tuple[str, ...] | None]
    visible: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    own: str | None = None
    needs: tuple[str, ...] = ()
    code: frozenset[str] = frozenset()
    fields: tuple[tuple[Wiring, Mapping[str, tuple[str, ...] | None]], ...] = field(default=())
    """The fields with expressions, each with the names that only it sees."""


def check_wiring(data: Json, base: Path, scope: Scope) -> Iterator[Finding]:
    """What is wrong with the expressions anywhere in ``data``, whose path is ``base``."""
    for path, text, is_key in _texts(data, ()):
        place = next((each for each in scope.fields if path[: len(each[0].path)] == each[0].path), None)
        if place is None or is_key:
            if OPENING in text:
                yield _not_allowed(text, (*base, *path), scope, is_key=is_key)
            continue
        wiring, extra = place
        for finding in check_text(text, {**scope.names, **extra}, scope, condition=wiring.condition):
            yield _at(finding, (*base, *path), text)


def check_text(
    text: str, names: Mapping[str, tuple[str, ...] | None], scope: Scope, *, condition: bool
) -> Iterator[tuple[int, str, str, str]]:
    """What is wrong with the expressions of one text: offset, code, message and fix of each."""
    if not condition and OPENING not in text:
        return
    try:
        pieces: list[Piece] = [condition_source(text)] if condition else split_template(text)
    except TemplateError as error:
        yield error.offset, "invalid_expression", str(error), error.fix
        return
    for piece in pieces:
        if not piece.expression:
            continue
        try:
            analysis = check_expression(piece.text)
        except ExpressionSyntaxError as error:
            yield piece.start + error.offset, "invalid_expression", str(error), error.fix
            continue
        for call in analysis.calls:
            if call.name not in FUNCTIONS:
                otherwise = "see the list of functions in the reference of the language"
                fix = instead(call.name, FUNCTIONS, otherwise=otherwise)
                yield piece.start + call.offset, "unknown_function", f"there is no function `{call.name[:80]}`", fix
        for reference in analysis.references:
            found = _reference(reference, names, scope) or _not_alone(reference, piece)
            if found is not None:
                yield piece.start + reference.offset, *found


def _texts(value: Json, path: Path) -> Iterator[tuple[Path, str, bool]]:
    """Every text and every key in a JSON value; the last says whether it is a key."""
    if isinstance(value, str):
        yield path, value, False
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _texts(item, (*path, position))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield (*path, key), key, True
            yield from _texts(item, (*path, key))


def _at(found: tuple[int, str, str, str], path: Path, text: str) -> Finding:
    offset, code, message, fix = found
    start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, offset) + 1
    return Finding(path=path, code=code, message=message, fix=fix, line=line, column=offset - start)


def _not_allowed(text: str, path: Path, scope: Scope, *, is_key: bool) -> Finding:
    code = "expression_not_allowed"
    if is_key:
        return Finding(path=path, code=code, message="a key can't be an expression", fix="write it out", at="key")
    keys = [part for part in path if isinstance(part, str)]
    own = next((key for key in keys if key in scope.code), None)
    if own is not None:
        message = "an expression can't stand inside code, so that no value becomes code"
        fix = "pass the value through `with:` and read it from the inputs of the code"
    else:
        message = f"`{keys[-1] if keys else 'this'}` can't hold an expression"
        fix = "write it out; expressions are for `with`, `if`, `for_each.in`, `output` and the like"
    return _at((text.find(OPENING), code, message, fix), path, text)


def _reference(
    reference: Reference, names: Mapping[str, tuple[str, ...] | None], scope: Scope
) -> tuple[str, str, str] | None:
    root = str(reference.path[0])
    if root not in names:
        return _unknown_root(root, names, scope)
    attribute = reference.path[1] if len(reference.path) > 1 else None
    if root == "steps":
        return _step(reference, attribute, scope)
    if root == "secrets":
        if isinstance(attribute, str) and NAME.fullmatch(attribute) and len(reference.path) == 2:  # noqa: PLR2004
            return None
        return "invalid_expression", "a secret is named as `secrets.<name>`", "write its name after the dot"
    known = names[root]
    if known is None or not isinstance(attribute, str) or attribute in known:
        return None
    code, what = ("unknown_input", "input") if root == "inputs" else ("unknown_attribute", "attribute")
    otherwise = f"known: {listing(known)}" if known else "declare it under `inputs:`"
    return code, f"`{root}` has no {what} `{attribute[:80]}`", instead(attribute, known, otherwise=otherwise)


def _not_alone(reference: Reference, piece: Piece) -> tuple[str, str, str] | None:
    """Nothing is computed from a secret, so that records can show its expression where a call has its value."""
    if reference.path[0] != "secrets" or secret_of(piece) is not None:
        return None
    message = "nothing can be computed from a secret"
    alone = f"${{{{ secrets.{reference.path[1]} }}}}"
    fix = f"write `{alone}` by itself, with text around it; set what is made of it as a secret of its own"
    return "secret_not_alone", message, fix


def _unknown_root(root: str, names: Mapping[str, tuple[str, ...] | None], scope: Scope) -> tuple[str, str, str]:
    if root == "secrets":
        fix = "only `with` of a tool step sees secrets; code gets them by `secrets: [name]`"
        return "secret_not_allowed", "secrets can't be used here", fix
    if root in {"item", "index"}:
        return "unknown_name", f"there is no `{root}` here", "only `with` and `wait` of a step with `for_each` see it"
    if root in scope.known:
        return "unknown_name", f"there is no name `{root}`", f"did you mean `steps.{root}.result`?"
    fix = instead(root, names, otherwise=f"known here: {listing(sorted(names))}; put text in quotes")
    if "inputs" in names and root in (names["inputs"] or ()):
        fix = f"did you mean `inputs.{root}`?"
    return "unknown_name", f"there is no name `{root[:80]}` here", fix


def _step(reference: Reference, step: Part | None, scope: Scope) -> tuple[str, str, str] | None:
    if not isinstance(step, str):
        fix = "name the step: `steps.<id>.result`"
        return "dynamic_reference", "which step is meant must be known before the run", fix
    if step not in scope.known:
        known = sorted(scope.visible) or sorted(scope.known)
        otherwise = f"known here: {listing(known)}" if known else "there is no step before this one"
        return "unknown_step", f"there is no step `{step[:80]}`", instead(step, known, otherwise=otherwise)
    if step not in scope.visible:
        return _not_ancestor(step, scope)
    attribute = reference.path[2] if len(reference.path) > 2 else None  # noqa: PLR2004 - steps.<id>.<attribute>
    if attribute is None or isinstance(attribute, Lookup) or attribute in STEP_ATTRIBUTES:
        return None
    otherwise = f"did you mean `steps.{step}.result.{attribute}`?"
    fix = instead(str(attribute), STEP_ATTRIBUTES, otherwise=otherwise)
    return "unknown_attribute", f"a step has no attribute `{str(attribute)[:80]}`", fix


def _not_ancestor(step: str, scope: Scope) -> tuple[str, str, str]:
    code = "step_not_ancestor"
    if scope.own is None:
        return code, f"step `{step}` hasn't run when this is evaluated", "refer to one of `steps:`"
    if step == scope.own:
        return code, f"step `{step}` refers to itself", "refer to a step that has run before it"
    message = f"step `{step}` need not have run when `{scope.own}` does"
    if step in scope.after:
        fix = f"`{step}` needs `{scope.own}`: turn the order of the two around"
        return code, f"step `{step}` runs after `{scope.own}`", fix
    return code, message, f"add it to needs: `needs: [{', '.join((*scope.needs, step))}]`"
