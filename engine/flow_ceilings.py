"""What flows ask for beyond the policy of the workspace, at its places in their texts."""

from collections.abc import Iterator, Mapping

from flows.definition import Definition
from flows.errors import Problem
from flows.kinds import beneath
from flows.loader import places
from steps.ceilings import Ceilings, PolicyRefusedError


def refuse_above(definitions: Mapping[str, Definition], paths: Mapping[str, str], ceilings: Ceilings) -> None:
    """Refuse flows that ask for more than the policy lets them have. ``paths`` is what their files are called, by name.

    What depends on the machine that a run is on, its isolation, is seen only when a run is planned.

    Raises:
        PolicyRefusedError: one or more do; the message has everything, each with its place.
    """
    problems = sorted(
        problem
        for name, definition in definitions.items()
        for problem in _problems(definition, paths.get(name, f"{name}.yaml"), ceilings)
    )
    if problems:
        lines = (f"{one.path}:{one.line}:{one.column}: {one.message}" for one in problems)
        raise PolicyRefusedError("\n".join(lines), fix=problems[0].fix)


def _problems(definition: Definition, path: str, ceilings: Ceilings) -> Iterator[Problem]:
    flow = definition.flow
    lists = {"steps": flow.steps, "on_failure": flow.on_failure, "finally": flow.finally_}
    findings = [
        beneath(finding, (key, position))
        for key, steps in lists.items()
        for position, step in enumerate(steps)
        for finding in ceilings.findings(step)
    ]
    if findings:
        yield from places(findings, definition.text, path)
