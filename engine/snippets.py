"""Code executed by itself: a run of one step, driven without Prefect (decision 0004)."""

from collections.abc import Mapping
from hashlib import sha256
from json import dumps
from typing import Final

from engine.attempts import Work
from engine.execution import Execution, RunOutcome
from engine.language import Language
from engine.service import ImageSnippet, Snippet
from flows.contracts import StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.kinds import parse_step
from flows.model import Flow
from flows.values import Json

STEP = "code"
FLOW = "exec"
BY_ITSELF: Final[Mapping[str, Json]] = {"trigger": {"kind": "exec"}}
"""What the run of a snippet records of its start."""


class InvalidSnippetError(InvalidCallError):
    """What the code is to be given can't be: an unknown tool, a host that isn't one, a limit out of range."""

    code = "invalid_snippet"


class DirectDriver:
    """Makes the one attempt of the one step and keeps what it came to."""

    def __init__(self) -> None:
        self.result: StepResult | None = None

    async def run(self, execution: Execution) -> RunOutcome:
        """See :class:`engine.runs.Driver`."""
        return await execution.body(self._perform)

    async def _perform(self, work: Work) -> StepResult:
        self.result = await work.attempt()
        return self.result


def snippet_definition(snippet: Snippet | ImageSnippet, language: Language) -> Definition:
    """A snippet as a flow of one step, whose ``with`` passes on the inputs of the run.

    The code itself isn't checked: what is wrong with it is the outcome of its execution.

    Raises:
        InvalidSnippetError: what it asks for is not valid; the message names every problem.
    """
    network = snippet.network if isinstance(snippet.network, str) else {"allow": list(snippet.network)}
    limits = {"timeout": snippet.timeout, "memory": snippet.memory}
    step: dict[str, Json] = {
        "id": STEP,
        **_executed(snippet),
        "with": {name: f"${{{{ inputs[{dumps(name)}] }}}}" for name in snippet.inputs},
        "network": network,
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
    }
    kind, config, findings = parse_step(step, (), language.registry)
    if kind is not None and config is not None:
        findings += kind.check(config, language.catalogue)
    code = snippet.language if isinstance(snippet, Snippet) else None
    wrong = [finding for finding in findings if finding.path[:1] != (code,)]
    if wrong or kind is None or config is None:
        raise InvalidSnippetError(
            "\n".join(f"{finding.message}; {finding.fix}" for finding in wrong), fix="see stepbox exec --help"
        )
    flow = Flow(flow=FLOW, inputs={name: {} for name in snippet.inputs}, steps=[config])
    text = dumps({"flow": FLOW, "inputs": flow.inputs, "steps": [step]}, indent=2, ensure_ascii=False)
    return Definition(
        flow=flow,
        text=text,
        digest=sha256(text.encode()).hexdigest(),
        needs={STEP: ()},
        order=(STEP,),
        steps={STEP: config},
        kinds={STEP: kind.key},
        trigger_kinds={},
    )


def _executed(snippet: Snippet | ImageSnippet) -> dict[str, Json]:
    """What the step executes, by the keys that say so."""
    if isinstance(snippet, Snippet):
        return {snippet.language: snippet.code, "tools": list(snippet.tools)}
    if snippet.command is None:
        return {"image": snippet.image}
    if isinstance(snippet.command, str):
        return {"image": snippet.image, "run": snippet.command}
    return {"image": snippet.image, "args": list(snippet.command)}
