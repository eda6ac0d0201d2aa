"""Tools"""

from typing import NoReturn

import pytest

from flows.errors import StepboxError
from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RecordingHost, RunStep


class DeniedError(StepboxError):
    code = "denied"


def deny(_arguments: Json) -> NoReturn:
    raise DeniedError("not today", fix="ask tomorrow")


@pytest.fixture
def workspace() -> RecordingHost:
    return RecordingHost(
        tools={
            "workspace.open_resource": lambda _given: {"rows": [{"revenue": 1.5}, {"revenue": 2}]},
            "workspace.update_doc": lambda given: given,
            "workspace.search_tasks": lambda _given: [{"id": "a"}, {"id": "b"}],
            "workspace.update_task": lambda given: given,
            "workspace.deny": deny,
        }
    )


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return tools.update_doc({'docId': 'a'})"),
        ("python", "return tools.update_doc(docId='a')"),
        ("python", "return tools.workspace.update_doc(docId='a')"),
        ("javascript", "return await tools.update_doc({docId: 'a'})"),
        ("javascript", "return await tools.workspace.update_doc({docId: 'a'})"),
        ("shell", """tool update_doc '{"docId": "a"}' > $RESULT"""),
        ("shell", """echo '{"docId": "a"}' | tool workspace.update_doc - > $RESULT"""),
    ],
)
async def test_tool_is_called_by_short_and_full_name(
    run_step: RunStep, workspace: RecordingHost, language: Language, code: str
) -> None:
    outcome = await run_step(code, language, host=workspace)
    assert (outcome.result, outcome.tool_calls) == ({"docId": "a"}, 1)
    assert workspace.calls == [("workspace.update_doc", {"docId": "a"})]


@pytest.mark.both_users
async def test_snippet_sums_the_rows_of_a_resource(run_step: RunStep, workspace: RecordingHost) -> None:
    code = """
const sheet = await tools.open_resource({sourceKind: "file", sourceId: "sales-q1"});
let total = 0;
for (const row of sheet.rows) total += row.revenue;
await tools.update_doc({docId: "sales-summary", content: `Total: ${total}`});
"""
    outcome = await run_step(code, "javascript", host=workspace)
    assert outcome.status is StepStatus.SUCCEEDED
    assert workspace.calls[-1] == ("workspace.update_doc", {"docId": "sales-summary", "content": "Total: 3.5"})


@pytest.mark.both_users
async def test_snippet_archives_each_task_found(run_step: RunStep, workspace: RecordingHost) -> None:
    code = """
const stale = await tools.search_tasks({status: "in_progress", updatedBefore: "30 days ago"});
for (const task of stale) {
  await tools.update_task({taskId: task.id, statusId: "archived"});
}
return {archived: stale.length};
"""
    outcome = await run_step(code, "javascript", host=workspace)
    assert outcome.result == {"archived": 2}
    assert [arguments["taskId"] for _name, arguments in workspace.calls[1:]] == ["a", "b"]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "try:\n    tools.deny()\nexcept Exception as error:\n    return [error.code, error.message]"),
        ("javascript", "try { await tools.deny({}) } catch (error) { return [error.code, error.message] }"),
        ("shell", "tool deny 2> told || jq -R '[split(\": \")[]]' told > $RESULT"),
    ],
)
async def test_failed_call_raises_with_code_and_message(
    run_step: RunStep, workspace: RecordingHost, language: Language, code: str
) -> None:
    outcome = await run_step(code, language, host=workspace)
    assert outcome.result == ["denied", "not today (ask tomorrow)"]


@pytest.mark.parametrize(
    ("language", "code"), [("python", "x = 1\ntools.deny()"), ("javascript", "\nawait tools.deny({})")]
)
async def test_uncaught_failure_of_a_tool_is_the_steps(
    run_step: RunStep, workspace: RecordingHost, language: Language, code: str
) -> None:
    outcome = await run_step(code, language, host=workspace)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "denied")


@pytest.mark.attack(
    "call a tool that was not granted, by its name", "an error that says how to grant it; the host makes no call"
)
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "tools.delete_all()"),
        ("python", "tools.workspace.delete_all()"),
        ("javascript", "await tools.delete_all({})"),
        ("javascript", "await tools.workspace.delete_all({})"),
        ("shell", "tool delete_all"),
    ],
)
async def test_tool_that_is_not_granted_says_how_to_grant_it(
    run_step: RunStep, workspace: RecordingHost, language: Language, code: str
) -> None:
    outcome = await run_step(code, language, host=workspace)
    assert outcome.error is not None
    assert "is not granted to this step; add it to the step's `tools:`" in outcome.error.message
    assert "tool_not_granted" in (outcome.error.code, outcome.error.message[15:31])
    assert workspace.calls == []


async def test_ambiguous_short_name_asks_for_the_full_one(run_step: RunStep) -> None:
    host = RecordingHost(tools={"a.list": lambda _given: 1, "b.list": lambda _given: 2})
    outcome = await run_step("await tools.list({})", "javascript", host=host)
    assert outcome.error is not None
    assert "could be a.list or b.list" in outcome.error.message
    assert (await run_step("return tools.b.list()", host=host)).result == 2


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        (
            "python",
            "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(8) as pool:\n    return sorted(r['n'] for r in pool.map(lambda n: tools.update_doc(n=n), range(40)))",
        ),
        (
            "javascript",
            "return (await Promise.all([...Array(40).keys()].map((n) => tools.update_doc({ n })))).map((r) => r.n)",
        ),
        (
            "shell",
            'for n in $(seq 0 39); do (tool update_doc "{\\"n\\": $n}" >> all) & [ $((n % 8)) = 7 ] && wait; done; wait; jq -s \'map(.n) | sort\' all > $RESULT',
        ),
    ],
)
async def test_calls_at_once_each_get_their_own_answer(
    run_step: RunStep, workspace: RecordingHost, language: Language, code: str
) -> None:
    outcome = await run_step(code, language, host=workspace)
    assert (outcome.result, outcome.error) == (list(range(40)), None)


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return len(tools.big()['text'])"),
        ("javascript", "return (await Promise.all([tools.big({}), tools.big({}), tools.big({})]))[2].text.length"),
        ("shell", "tool big | jq '.text | length' > $RESULT"),
    ],
)
async def test_large_answer_comes_whole(run_step: RunStep, language: Language, code: str) -> None:
    host = RecordingHost(tools={"demo.big": lambda _given: {"text": "x" * 3_000_000}})
    outcome = await run_step(code, language, host=host)
    assert (outcome.result, outcome.error) == (3_000_000, None)


async def test_arguments_that_json_cannot_say_raise_in_the_code(run_step: RunStep, workspace: RecordingHost) -> None:
    outcome = await run_step("tools.update_doc({'a': {1, 2}})", host=workspace)
    assert outcome.error is not None
    assert outcome.error.message.startswith("arguments.a is a set")


@pytest.mark.every_runner
async def test_error_of_the_host_itself_propagates(run_step: RunStep) -> None:
    def crash(_given: Json) -> Json:
        raise LookupError("a bug of the host")

    with pytest.raises(LookupError, match="a bug of the host"):
        await run_step("tools.crash()\nimport time; time.sleep(60)", host=RecordingHost(tools={"demo.crash": crash}))


async def test_tools_object_is_no_promise_and_no_result(run_step: RunStep, workspace: RecordingHost) -> None:
    outcome = await run_step(
        "const same = await tools; return [typeof same.update_doc, 'update_doc' in tools]", "javascript", host=workspace
    )
    assert outcome.result == ["function", True]
