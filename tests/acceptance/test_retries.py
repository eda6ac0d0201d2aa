"""``stepbox runs retry``: what failed is repaired, and the rest is not done again."""

from tests.acceptance.conftest import Stepbox

FLOW = """\
flow: loads
inputs: {name: {type: string}}
steps:
  - id: fetch
    shell: echo "fetched $INPUT_NAME" && tool files.write '{"path":"log","content":"fetched"}' > /dev/null
    with: {name: "${{ inputs.name }}"}
    tools: [files.write]
  - id: load
    shell: tool files.read '{"path":"wanted"}' | jq -r .content
    tools: [files.read]
output: ${{ steps.fetch.result }}
"""


def test_a_run_is_made_again_from_where_it_failed(stepbox: Stepbox) -> None:
    first = stepbox("run", stepbox.flow("loads", FLOW), "-i", "name=it", "--output", "json").json()
    assert first["steps"]["load"]["status"] == "failed"
    shared = stepbox.directory / ".stepbox/shared"
    (shared / "log").unlink()
    (shared / "wanted").write_text("here")
    # The run has its own version of the flow.
    stepbox.flow("loads", "flow: loads\nsteps: []\n")
    again = stepbox("runs", "retry", first["run_id"][:20], "--output", "json")
    assert (again.status, again.json()["output"]) == (0, "fetched it"), again
    assert again.json()["steps"]["load"]["result"] == "here"
    assert not (shared / "log").exists(), "it was not fetched again"
    shown = stepbox("runs", "retry", first["run_id"], "--from", "fetch")
    assert (shown.status, shown.stdout) == (0, '"fetched it"\n')
    assert (shared / "log").exists()
    wrong = stepbox("runs", "retry", first["run_id"], "--from", "lod", "--output", "json")
    assert (wrong.status, wrong.json()["error"]["code"]) == (2, "unknown_step")
    assert wrong.json()["error"]["fix"] == "did you mean `load`?"
