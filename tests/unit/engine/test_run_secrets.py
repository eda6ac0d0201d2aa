"""Secrets in runs, through the real store and engine: who is given one, and that nothing recorded has its value."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.secrets import SecretTooShortError, UnknownSecretError
from engine.store.calls import arguments_digest
from flows.contracts import CollectedFile, EgressDecision, Question, StepCall, ToolSpec
from flows.errors import InvalidFlowError
from flows.values import Json, RunStatus, StepStatus
from steps.masking import SHOWN
from steps.tools.contract import ToolContext, ToolError
from tests.unit.engine.conftest import Engine, Flows, RunEngine, open_engine

VALUE = "sk-4f9a7c21e8b3/with+more"
ROTATED = "another-value-of-another-length-9d8c7b6a"


class Sending:
    """A plug-in's tool that keeps what it got, and gives it back, or fails with it."""

    def __init__(self, name: str, *, approval: bool = False) -> None:
        self.spec = ToolSpec(
            name=f"plug.{name}",
            description="Sends something.",
            arguments={"type": "object", "properties": {"text": {"maxLength": 100}}},
            effect="write",
            approval="always" if approval else "never",
        )
        self.got: list[Json] = []

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        self.got.append(arguments["text"])
        if "bug" in arguments:
            raise ZeroDivisionError(f"a bug with {arguments['text']}")
        if "fail" in arguments:
            raise ToolError(f"{arguments['text']} is wrong", fix=f"not {arguments['text']}")
        return {"echo": [f"<{arguments['text']}>", {arguments["text"]: VALUE[::-1]}]}


sends = Sending("sends")
asks = Sending("asks", approval=True)
PLUG_INS = [EntryPoint(f"plug.{name}", f"{__name__}:{name}", "stepbox.tools") for name in ("sends", "asks")]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[RunEngine]:
    sends.got.clear()
    asks.got.clear()
    async with open_engine(tmp_path, plug_ins=PLUG_INS) as make:
        yield make


async def made(engine: RunEngine) -> Engine:
    probed = engine()
    await probed.secrets.put("default", "token", VALUE)
    return probed


def kept(directory: Path) -> bytes:
    """All bytes of the database, with what isn't merged into its file yet."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("test.db*")))


SEND = """
flow: f
steps:
  - {id: a, tool: plug.sends, with: {text: "Bearer ${{ secrets.token }}"%s}%s}
output: ${{ steps.a.result }}
"""


async def test_a_tool_gets_the_value_and_records_show_the_expression(engine: RunEngine, tmp_path: Path) -> None:
    probed = await made(engine)
    outcome = await probed.run(SEND % ("", ""))
    assert sends.got == [f"Bearer {VALUE}"]
    assert outcome.run.output == {"echo": [f"<Bearer {SHOWN}>", {f"Bearer {SHOWN}": SHOWN}]}
    (call,) = await probed.store.calls.list(outcome.run.id)
    assert call.arguments == {"text": "Bearer ${{ secrets.token }}"}
    assert VALUE not in repr(probed.observer.seen)
    everything = kept(tmp_path)
    assert b"secrets.token" in everything
    for form in (VALUE, VALUE[::-1], hashlib.sha256(VALUE.encode()).hexdigest()):
        assert form.encode() not in everything


@pytest.mark.parametrize("more", [", fail: 1", ", bug: 1"])
async def test_the_error_of_a_tool_is_masked_also_in_the_log_of_the_service(
    engine: RunEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str
) -> None:
    probed = await made(engine)
    outcome = await probed.run(SEND % (more, ""))
    error = outcome.steps["a"].final.error
    assert error is not None
    assert SHOWN in error.message
    assert VALUE not in repr(outcome) + caplog.text
    assert VALUE.encode() not in kept(tmp_path)
    assert ("ZeroDivisionError" in caplog.text) == ("bug" in more)


async def test_arguments_that_do_not_fit_are_told_without_the_value(engine: RunEngine, tmp_path: Path) -> None:
    probed = engine()
    await probed.secrets.put("default", "token", "x-y-z-" * 20)
    outcome = await probed.run(SEND % ("", ""))
    error = outcome.steps["a"].final.error
    assert error is not None
    assert error.code == "invalid_arguments"
    assert "x-y-z-x" not in repr(outcome)
    assert sends.got == []
    assert b"x-y-z-x" not in kept(tmp_path)


async def test_an_approval_shows_the_expression_and_outlasts_a_rotation(engine: RunEngine) -> None:
    probed = await made(engine)
    flow = 'flow: f\nsteps: [{id: a, tool: plug.asks, with: {text: "${{ secrets.token }}"}}]\noutput: "${{ steps.a.result }}"'
    waiting = await probed.run(flow)
    assert waiting.run.status is RunStatus.WAITING
    (approval,) = await probed.store.approvals.list()
    assert approval.details == {"tool": "plug.asks", "arguments": {"text": "${{ secrets.token }}"}}
    await probed.secrets.put("default", "token", ROTATED)
    await probed.store.approvals.decide(approval.id, "approved", by="ana")
    plan = await probed.runs.plan(probed.load(flow), {}, Flows({}), workspace="default")
    ended = await probed.runs.resume(plan, waiting.run, observer=probed.observer)
    assert ended.run.status is RunStatus.SUCCEEDED
    assert asks.got == [ROTATED]
    assert ROTATED not in repr(ended.run.output)


async def test_a_call_is_known_by_what_neither_tells_the_value_nor_changes_with_it(engine: RunEngine) -> None:
    probed = await made(engine)
    digests = set()
    for value in (VALUE, ROTATED):
        await probed.secrets.put("default", "token", value)
        outcome = await probed.run(SEND % ("", ""))
        (call,) = await probed.store.calls.list(outcome.run.id)
        digests.add(call.arguments_digest)
    assert sends.got == [f"Bearer {VALUE}", f"Bearer {ROTATED}"]
    assert digests == {arguments_digest("plug.sends", {"text": "Bearer ${{ secrets.token }}"})}


async def test_a_value_that_is_rotated_during_the_run_is_masked_with_the_one_before(engine: RunEngine) -> None:
    async def rotate(call: StepCall) -> Json:
        await probed.secrets.put("default", "token", ROTATED)
        return VALUE

    async def leak(call: StepCall) -> Json:
        return f"{VALUE} {ROTATED}"

    probed = engine(rotate=rotate, leak=leak)
    await probed.secrets.put("default", "token", VALUE)
    outcome = await probed.run("""
flow: f
steps:
  - {id: rotate, probe: rotate}
  - {id: a, tool: plug.sends, with: {text: "${{ secrets.token }}"}}
  - {id: leak, probe: leak}
output: ${{ steps.leak.result }}
""")
    assert sends.got == [ROTATED]
    assert outcome.run.output == f"{SHOWN} {SHOWN}"


async def test_all_secrets_of_the_flow_are_masked_in_all_its_steps(engine: RunEngine, tmp_path: Path) -> None:
    async def leak(call: StepCall) -> Json:
        assert call.secrets == {}
        await call.log("stdout", f"it is {VALUE}")
        await call.record_egress(EgressDecision(host=f"{VALUE}.example", port=443, allowed=False, reason=f"no {VALUE}"))
        asked = await call.ask(Question(message=f"Use {VALUE}?", details={"key": VALUE}))
        assert asked.id
        directory = call.artifact_directory()
        files = []
        for number, name in enumerate((VALUE.replace("/", "-"), f"{VALUE[::-1]}", "plain")):
            content = directory / str(number)
            content.write_text("content")
            digest = hashlib.sha256(b"content").hexdigest()
            files.append(CollectedFile(path=name, size=7, sha256=digest, content=content))
        kept_files = await call.keep_artifacts(files)
        return {"paths": [one.path for one in kept_files], "value": VALUE}

    probed = engine(leak=leak)
    await probed.secrets.put("default", "token", VALUE)
    outcome = await probed.run("""
flow: f
steps:
  - {id: leak, probe: leak}
  - {id: a, tool: plug.sends, with: {text: "${{ secrets.token }}"}}
output: ${{ steps.leak.result }}
""")
    assert outcome.run.status is RunStatus.SUCCEEDED, outcome
    assert outcome.run.output == {"paths": [VALUE.replace("/", "-"), SHOWN, "plain"], "value": SHOWN}
    (line,) = (await probed.store.logs.list(outcome.run.id)).items
    assert line.line == f"it is {SHOWN}"
    assert VALUE not in repr(probed.observer.seen) + repr(outcome)
    assert VALUE.encode() not in kept(tmp_path)


async def test_a_secret_that_is_not_set_is_refused_before_anything_runs(engine: RunEngine) -> None:
    probed = engine()
    flow = "flow: f\nsteps: [{id: a, probe: echo}, {id: b, tool: plug.sends, with: {text: '${{ secrets.token }}'}}]"
    with pytest.raises(UnknownSecretError, match="token") as refused:
        await probed.run(flow)
    assert refused.value.fix == "set it: stepbox secrets set token"
    with pytest.raises(UnknownSecretError, match="token"):
        await probed.run("flow: g\nsteps: [{id: a, flow: f}]", flow)
    await probed.secrets.put("default", "token", "abc")
    with pytest.raises(SecretTooShortError, match="shorter than 4"):
        await probed.run(flow)
    assert probed.probes.calls == []


async def test_a_secret_that_goes_meanwhile_fails_the_step_that_names_it(engine: RunEngine) -> None:
    async def forget(call: StepCall) -> Json:
        await probed.secrets.delete("default", "token")
        return None

    probed = engine(forget=forget)
    await probed.secrets.put("default", "token", VALUE)
    outcome = await probed.run(
        "flow: f\nsteps: [{id: a, probe: forget}, {id: b, tool: plug.sends, with: {text: '${{ secrets.token }}'}}]"
    )
    final = outcome.steps["b"].final
    assert final.error is not None
    assert (final.status, final.error.code) == (StepStatus.FAILED, "unknown_secret")
    assert sends.got == []


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (
            "{id: a, tool: workspace.create_doc, with: {docId: a, content: '${{ secrets.token }}'}}",
            "secret_not_allowed",
        ),
        ("{id: a, tool: event.emit, with: {type: x, data: {k: '${{ secrets.token }}'}}}", "secret_not_allowed"),
        ("{id: a, tool: plug.sends, if: 'secrets.token == \"a\"', with: {text: a}}", "secret_not_allowed"),
        ("{id: a, tool: plug.sends, with: {text: '${{ size(secrets.token) }}'}}", "secret_not_alone"),
        ("{id: a, tool: plug.sends, for_each: {in: '${{ [secrets.token] }}'}, with: {text: a}}", "secret_not_allowed"),
        ("{id: a, approval: {message: 'Use ${{ secrets.token }}?'}}", "expression_not_allowed"),
        ("{id: a, flow: g, with: {x: '${{ secrets.token }}'}}", "secret_not_allowed"),
        ("{id: a, python: return 1, with: {x: '${{ secrets.token }}'}}", "secret_not_allowed"),
        ("{id: a, probe: echo}\noutput: '${{ secrets.token }}'", "secret_not_allowed"),
    ],
)
async def test_a_secret_anywhere_else_is_a_mistake_in_the_flow(engine: RunEngine, step: str, code: str) -> None:
    probed = engine()
    step, _, rest = step.partition("\n")
    with pytest.raises(InvalidFlowError) as refused:
        probed.load(f"flow: f\nsteps:\n  - {step}\n{rest}")
    assert code in [problem.code for problem in refused.value.problems]
    assert all(problem.fix for problem in refused.value.problems)
