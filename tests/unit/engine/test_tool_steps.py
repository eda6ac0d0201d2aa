"""Steps of tools, through the whole engine."""

from flows.values import RunStatus
from tests.unit.engine.conftest import RunEngine


async def test_a_tool_step_gives_the_tools_result(engine: RunEngine) -> None:
    outcome = await engine().run("""
flow: tools
steps:
  - {id: make, tool: workspace.create_doc, with: {docId: a, content: text}}
  - {id: read, tool: workspace.open_resource, with: {sourceKind: doc, sourceId: "${{ steps.make.result.id }}"}}
output: ${{ steps.read.result.content }}
""")
    assert outcome.run.output == "text"
    made = outcome.document()["steps"]["make"]
    assert (made["tool_calls"], made["isolation"]) == (1, None)


async def test_a_tool_that_fails_fails_its_step_with_its_own_error(engine: RunEngine) -> None:
    outcome = await engine().run(
        "flow: tools\nsteps: [{id: read, tool: workspace.open_resource, with: {sourceKind: doc, sourceId: absent}}]"
    )
    error = outcome.steps["read"].final.error
    assert error is not None
    assert error.code == "not_found"
    assert outcome.steps["read"].tool_calls == 1
    assert outcome.run.status is RunStatus.FAILED


async def test_a_result_over_the_limit_is_refused_and_names_the_way(engine: RunEngine) -> None:
    outcome = await engine().run(
        """
flow: tools
inputs: {content: {type: string}}
steps:
  - {id: make, tool: workspace.create_doc, with: {docId: a, content: "${{ inputs.content }}"}}
  - {id: read, tool: workspace.open_resource, with: {sourceKind: doc, sourceId: a}}
""",
        content="x" * 1_000_000,
    )
    assert outcome.steps["read"].final.status.value == "limit_exceeded"
    assert outcome.steps["read"].final.error is not None
    assert outcome.steps["read"].final.error.code == "result_too_large"


async def test_the_word_secrets_in_a_text_is_no_secret(engine: RunEngine) -> None:
    flow = (
        "flow: tools\nsteps: [{id: a, tool: workspace.create_doc, with: {docId: a, content: \"${{ 'secrets.y' }}\"}}]"
    )
    assert (await engine().run(flow)).run.status is RunStatus.SUCCEEDED
