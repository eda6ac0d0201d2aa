"""``stepbox run``, ``exec``, ``validate``, ``runs`` and ``flows``: every exit status and the JSON of each."""

import json
import signal
import time

import pytest

from tests.acceptance.conftest import Stepbox, interrupt

STEP_KEYS = {"status", "result", "error", "attempts", "isolation", "duration_ms", "tool_calls", "egress", "artifacts"}
ERROR_KEYS = {"code", "message", "line", "traceback", "fix"}

SUM = """
flow: sum
inputs: {numbers: {type: array, items: {type: number}}, times: {type: integer, default: 1}}
steps:
  - id: add
    python: |
      print("adding", len(inputs["numbers"]))
      return sum(inputs["numbers"]) * inputs["times"]
    with: {numbers: "${{ inputs.numbers }}", times: "${{ inputs.times }}"}
  - id: double
    javascript: "return inputs.sum * 2;"
    with: {sum: "${{ steps.add.result }}"}
  - id: say
    shell: echo "the double is $INPUT_DOUBLE"
    with: {double: "${{ steps.double.result }}"}
output: {double: "${{ steps.double.result }}", text: "${{ steps.say.result }}"}
"""


def test_a_run_that_succeeds(stepbox: Stepbox) -> None:
    flow = stepbox.flow("sum", SUM)
    outcome = stepbox("run", flow, "-i", "numbers=[1,2,3]", "-i", "times=2", "--output", "json")
    assert outcome.status == 0, outcome.stderr
    document = outcome.json()
    assert set(document) == {"run_id", "flow", "status", "output", "error", "steps"}
    assert document["flow"] == "sum"
    assert document["status"] == "succeeded"
    assert document["output"] == {"double": 24, "text": "the double is 24"}
    assert document["error"] is None
    assert list(document["steps"]) == ["add", "double", "say"]
    for step in document["steps"].values():
        assert set(step) == STEP_KEYS
        assert step["status"] == "succeeded"
        assert step["error"] is None
        assert step["attempts"] == 1
        assert step["isolation"] == "jail"
        assert step["duration_ms"] > 0
        assert step["tool_calls"] == 0
        assert step["egress"] == 0


def test_text_output_for_people_has_no_colour_when_it_is_not_a_terminal(stepbox: Stepbox) -> None:
    outcome = stepbox("run", stepbox.flow("sum", SUM), "-i", "numbers=[1,2]")
    assert outcome.status == 0
    assert json.loads(outcome.stdout) == {"double": 6, "text": "the double is 6"}
    assert "add │ adding 2" in outcome.stderr
    assert "✓ succeeded" in outcome.stderr
    assert "\x1b" not in outcome.stdout + outcome.stderr


def test_inputs_from_a_file_and_from_standard_input(stepbox: Stepbox) -> None:
    flow = stepbox.flow("sum", SUM)
    (stepbox.directory / "inputs.json").write_text('{"numbers": [5], "times": 3}')
    assert stepbox("run", flow, "--inputs", "inputs.json", "--output", "json").json()["output"]["double"] == 30
    outcome = stepbox("run", flow, "--inputs", "-", "-i", "times=1", "--output", "json", stdin='{"numbers": [5]}')
    assert outcome.json()["output"]["double"] == 10


def test_a_flow_from_standard_input(stepbox: Stepbox) -> None:
    outcome = stepbox("run", "-", "-i", "numbers=[1]", "--output", "json", stdin=SUM)
    assert outcome.json()["output"]["double"] == 2


def test_a_run_that_fails_exits_1_and_names_the_line(stepbox: Stepbox) -> None:
    flow = stepbox.flow(
        "bad",
        """
flow: bad
steps:
  - id: divide
    python: |
      a = 1
      return a / 0
  - id: after
    shell: echo never
""",
    )
    outcome = stepbox("run", flow, "--output", "json")
    assert outcome.status == 1
    document = outcome.json()
    assert document["status"] == "failed"
    assert document["output"] is None
    assert set(document["error"]) == ERROR_KEYS
    error = document["steps"]["divide"]["error"]
    assert set(error) == ERROR_KEYS
    assert error["line"] == 2
    assert "ZeroDivisionError" in error["message"]
    assert "return a / 0" in error["traceback"]
    assert document["steps"]["after"]["status"] == "skipped"


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("flow: x\nsteps: []\nstpes: 1", (), "invalid_flow"),
        ("flow: x\ninputs: {n: {type: integer}}\nsteps: [{id: a, shell: 'true'}]", (), "invalid_input"),
        ("flow: x\ninputs: {n: {type: integer}}\nsteps: [{id: a, shell: 'true'}]", ("-i", "n=text"), "invalid_input"),
        ("flow: x\nsteps: [{id: a, shell: 'true'}]", ("-i", "m=1"), "invalid_input"),
        ("flow: x\nsteps: [{id: a, shell: 'true'}]", ("-i", "m"), "invalid_call"),
        ("flow: x\nsteps: [{id: a, shell: 'true'}]", ("--inputs", "absent.json"), "invalid_call"),
        ("flow: x\nsteps: [{id: a, flow: absent}]", (), "unknown_flow"),
    ],
)
def test_an_invalid_flow_or_call_exits_2_before_anything_runs(
    stepbox: Stepbox, text: str, arguments: tuple[str, ...], code: str
) -> None:
    outcome = stepbox("run", stepbox.flow("x", text), *arguments, "--output", "json")
    assert outcome.status == 2
    assert outcome.json()["error"]["code"] == code
    assert outcome.json()["error"]["message"]
    assert stepbox("runs", "list", "--output", "json").json() == []


def test_a_missing_file_exits_2(stepbox: Stepbox) -> None:
    outcome = stepbox("run", "absent.yaml")
    assert outcome.status == 2
    assert "absent.yaml" in outcome.stderr


def test_the_whole_network_waits_for_an_admin_once_a_version(stepbox: Stepbox) -> None:
    text = "flow: net\nsteps: [{id: a, shell: 'true'}, {id: b, shell: 'true', network: full}]"
    flow = stepbox.flow("net", text)
    (applied,) = stepbox("flows", "apply", flow, "--output", "json").json()
    waits = stepbox("run", "net")
    assert waits.status == 4
    assert f"stepbox approve {applied['approval']}" in waits.stderr
    shown = stepbox("approvals", "show", applied["approval"]).stdout
    assert "step b" in shown
    assert stepbox("approve", applied["approval"], "--resume").status == 0
    assert stepbox("run", "net").status == 0
    edited = stepbox.flow("net", text.replace("{id: b, shell: 'true'", "{id: b, shell: 'exit 0'"))
    (anew,) = stepbox("flows", "apply", edited, "--output", "json").json()
    assert stepbox("run", "net").status == 4
    assert (
        "+steps: [{id: a, shell: 'true'}, {id: b, shell: 'exit 0'"
        in stepbox("approvals", "show", anew["approval"]).stdout
    )
    # Who runs a file on the machine decides by that.
    assert stepbox("run", edited).status == 0


def test_an_isolation_that_can_not_be_had_exits_3(stepbox: Stepbox) -> None:
    flow = stepbox.flow("sum", SUM)
    outcome = stepbox("run", flow, "-i", "numbers=[1]", "--output", "json", STEPBOX_MIN_ISOLATION="container")
    assert outcome.status == 3
    assert "isolation" in outcome.json()["error"]["message"]
    docker = stepbox("run", flow, "-i", "numbers=[1]", STEPBOX_RUNNER="docker")
    assert docker.status == 3
    assert "docker" in docker.stderr


def test_a_kind_that_can_not_be_executed_here_validates_and_is_refused_with_3(stepbox: Stepbox) -> None:
    flow = stepbox.flow("later", "flow: later\nsteps: [{id: a, image: alpine}]")
    assert stepbox("validate", flow).status == 0
    assert stepbox("run", flow).status == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_exits_130_and_is_recorded(stepbox: Stepbox, how: signal.Signals) -> None:
    flow = stepbox.flow(
        "long",
        """
flow: long
steps: [{id: wait, shell: "echo started; sleep 100", limits: {timeout: 2m}}]
finally: [{id: tidy, shell: echo tidy}]
""",
    )
    process = stepbox.start("run", flow)
    assert process.stderr is not None
    while "started" not in process.stderr.readline():
        assert process.poll() is None
    if how is signal.SIGINT:
        interrupt(process)
    else:
        process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (run,) = stepbox("runs", "list", "--output", "json").json()
    assert run["status"] == "cancelled"
    steps = stepbox("runs", "show", run["run_id"], "--output", "json").json()["steps"]
    assert steps["wait"]["status"] == "cancelled"
    assert steps["tidy"]["status"] == "succeeded"


def test_runs_list_show_and_logs(stepbox: Stepbox) -> None:
    flow = stepbox.flow("sum", SUM)
    ran = stepbox("run", flow, "-i", "numbers=[1,2,3]", "--output", "json").json()
    stepbox("run", stepbox.flow("bad", "flow: bad\nsteps: [{id: a, shell: exit 3}]"))
    listed = stepbox("runs", "list", "--output", "json").json()
    assert [(run["flow"], run["status"]) for run in listed] == [("bad", "failed"), ("sum", "succeeded")]
    assert [run["flow"] for run in stepbox("runs", "list", "--flow", "sum", "--output", "json").json()] == ["sum"]
    assert [run["flow"] for run in stepbox("runs", "list", "--status", "failed", "--output", "json").json()] == ["bad"]
    assert len(stepbox("runs", "list", "--limit", "1", "--output", "json").json()) == 1
    assert stepbox("runs", "show", ran["run_id"], "--output", "json").json() == {
        **ran,
        "egress": [],
        "abandoned": False,
    }
    (line,) = stepbox("runs", "logs", ran["run_id"], "--step", "add", "--output", "json").json()
    assert (line["step"], line["stream"], line["line"]) == ("add", "stdout", "adding 3")
    text = stepbox("runs", "show", ran["run_id"])
    assert "✓ succeeded" in text.stdout
    assert ran["run_id"] in stepbox("runs", "list").stdout
    assert "adding 3" in stepbox("runs", "logs", ran["run_id"]).stdout
    assert stepbox("runs", "show", "0000").status == 2
    assert stepbox("runs", "list", "--status", "odd").status == 2


def test_flows_apply_list_and_show(stepbox: Stepbox) -> None:
    child = stepbox.flow(
        "child",
        "flow: child\ninputs: {n: {type: integer}}\nsteps: [{id: a, python: 'return inputs[\"n\"] + 1', with: {n: '${{ inputs.n }}'}}]\noutput: ${{ steps.a.result }}",
    )
    assert stepbox("flows", "apply", child).status == 0
    (listed,) = stepbox("flows", "list", "--output", "json").json()
    assert (listed["flow"], listed["version"]) == ("child", 1)
    assert stepbox("flows", "show", "child").stdout == (stepbox.directory / child).read_text()
    (stepbox.directory / child).unlink()
    parent = stepbox.flow(
        "parent", "flow: parent\nsteps: [{id: sub, flow: child, with: {n: 41}}]\noutput: ${{ steps.sub.result }}"
    )
    assert stepbox("run", parent, "--output", "json").json()["output"] == 42
    bad = stepbox.flow("bad", "flow: bad\nsteps: []\nodd: 1")
    good = stepbox.flow("good", "flow: good\nsteps: [{id: a, shell: 'true'}]")
    assert stepbox("flows", "apply", good, bad).status == 2
    assert stepbox("flows", "show", "good").status == 2


def test_validate_reports_every_problem_of_every_file(stepbox: Stepbox) -> None:
    good = stepbox.flow("good", "flow: good\nsteps: [{id: a, shell: 'true'}]")
    bad = stepbox.flow(
        "bad",
        """\
flow: bad
steps:
  - id: one
    pyhton: return 1
  - id: two
    shell: echo ${{ inputs.name }}
  - id: three
    tool: workspace.serch_tasks
    needs: [won]
""",
    )
    outcome = stepbox("validate", good, bad)
    assert outcome.status == 2
    assert "✓ good.yaml" in outcome.stdout
    for place in ("bad.yaml:4:", "bad.yaml:6:", "bad.yaml:8:", "bad.yaml:9:"):
        assert place in outcome.stderr
    assert "python" in outcome.stderr
    assert "with" in outcome.stderr
    assert "workspace.search_tasks" in outcome.stderr
    first, second = stepbox("validate", good, bad, "--output", "json").json()
    assert first == {"file": "good.yaml", "valid": True, "problems": []}
    assert not second["valid"]
    assert all(set(p) == {"file", "line", "column", "code", "message", "fix"} for p in second["problems"])
    assert stepbox("validate", "-", stdin="flow: good\nsteps: [{id: a, shell: 'true'}]").status == 0
    assert stepbox("validate", "absent.yaml").status == 2


def test_schema_is_a_json_schema(stepbox: Stepbox) -> None:
    schema = stepbox("schema").json()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "steps" in schema["properties"]


EXEC_KEYS = {*STEP_KEYS, "stdout", "stderr"}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nreturn inputs['n'] * 2"),
        ("javascript", "console.log('out'); console.error('err'); return inputs.n * 2;"),
        ("shell", "echo out; echo err >&2; echo $((INPUT_N * 2)) > $RESULT"),
    ],
)
def test_exec_gives_the_result_and_the_output(stepbox: Stepbox, language: str, code: str) -> None:
    outcome = stepbox("exec", "--language", language, "-i", "n=21", "--output", "json", stdin=code)
    assert outcome.status == 0, outcome.stderr
    document = outcome.json()
    assert set(document) == EXEC_KEYS
    assert (document["status"], document["result"]) == ("succeeded", 42)
    assert (document["stdout"].strip(), document["stderr"].strip()) == ("out", "err")


def test_exec_reads_code_from_a_file_or_standard_input(stepbox: Stepbox) -> None:
    (stepbox.directory / "code.py").write_text("return 'file'")
    assert stepbox("exec", "-l", "python", "code.py").stdout == '"file"\n'
    assert stepbox("exec", "-l", "python", "--file", "code.py").stdout == '"file"\n'
    assert stepbox("exec", "-l", "python", "-", stdin="return 'stdin'").stdout == '"stdin"\n'
    assert stepbox("exec", "-l", "python", "code.py", "--file", "code.py").status == 2


def test_exec_exit_statuses(stepbox: Stepbox) -> None:
    assert stepbox("exec", "-l", "python", stdin="return 1").stdout.strip() == "1"
    failed = stepbox("exec", "-l", "python", "--output", "json", stdin="raise ValueError('no')")
    assert failed.status == 1
    assert failed.json()["error"]["line"] == 1
    assert stepbox("exec", "-l", "cobol", stdin="x").status == 2
    assert stepbox("exec", "-l", "python", "--tool", "absent.tool", stdin="return 1").status == 2
    assert stepbox("exec", "-l", "python", "--timeout", "soon", stdin="return 1").status == 2
    assert stepbox("exec", "-l", "python", "-f", "absent.py").status == 2
    assert stepbox("exec", "-l", "python", "--network", "full", stdin="return 1").status == 0
    assert stepbox("exec", "-l", "python", "--network", "allow=example.com", stdin="return 1").status == 0
    assert stepbox("exec", "-l", "python", "--network", "allow=10.0.0.1", stdin="return 1").status == 2
    slow = stepbox("exec", "-l", "shell", "--timeout", "500ms", "--output", "json", stdin="sleep 60")
    assert (slow.status, slow.json()["status"]) == (1, "timed_out")


SALES = """
flow: sales
steps:
  - id: file
    tool: workspace.import_file
    with:
      fileId: sales-q1
      name: sales.csv
      content: |
        region,revenue
        north,1200.5
        south,800
        west,99.5
  - id: doc
    tool: workspace.create_doc
    with: {docId: sales-summary, content: nothing yet}
  - id: total
    javascript: |
      const sheet = await tools.open_resource({
        sourceKind: "file",
        sourceId: "sales-q1",
      });
      const total = sheet.rows.reduce((sum, row) => sum + row.revenue, 0);
      await tools.update_doc({ docId: "sales-summary", content: `Total revenue: ${total}` });
      return { total };
    tools: [workspace.open_resource, workspace.update_doc]
  - id: read
    tool: workspace.open_resource
    with: {sourceKind: doc, sourceId: sales-summary}
output: {total: "${{ steps.total.result.total }}", text: "${{ steps.read.result.content }}"}
"""

STALE = """
flow: stale
steps:
  - {id: old, tool: workspace.create_task, with: {title: old, statusId: in_progress, updatedAt: "2020-01-01T00:00:00Z"}}
  - {id: new, tool: workspace.create_task, with: {title: new, statusId: in_progress}}
  - {id: done, tool: workspace.create_task, with: {title: done, statusId: done, updatedAt: "2020-01-01T00:00:00Z"}}
  - id: archive
    javascript: |
      const tasks = await tools.search_tasks({ status: "in_progress", updatedBefore: "30 days ago" });
      for (const task of tasks) {
        await tools.update_task({ taskId: task.id, statusId: "archived" });
      }
      return tasks.map((task) => task.title);
    tools: [workspace.search_tasks, workspace.update_task]
  - {id: archived, tool: workspace.search_tasks, with: {status: archived}}
output: {archived: "${{ steps.archive.result }}", found: "${{ steps.archived.result[0].title }}"}
"""


def test_code_sums_a_sheet_into_a_document(stepbox: Stepbox) -> None:
    document = stepbox("run", stepbox.flow("sales", SALES), "--output", "json").json()
    assert document["output"] == {"total": 2100, "text": "Total revenue: 2100"}, document
    assert document["steps"]["total"]["tool_calls"] == 2


def test_code_archives_stale_tasks(stepbox: Stepbox) -> None:
    document = stepbox("run", stepbox.flow("stale", STALE), "--output", "json").json()
    assert document["output"] == {"archived": ["old"], "found": "old"}, document


def test_shell_calls_a_granted_tool(stepbox: Stepbox) -> None:
    flow = stepbox.flow(
        "shell",
        """
flow: shell
steps:
  - id: make
    shell: |
      tool create_doc '{"docId": "note", "content": "from shell"}' > made.json
      tool workspace.open_resource '{"sourceKind": "doc", "sourceId": "note"}' > $RESULT
    tools: [workspace.create_doc, workspace.open_resource]
output: ${{ steps.make.result.content }}
""",
    )
    document = stepbox("run", flow, "--output", "json").json()
    assert document["output"] == "from shell", document
    assert document["steps"]["make"]["tool_calls"] == 2


def test_python_has_its_packages(stepbox: Stepbox) -> None:
    code = "import httpx, numpy, pandas, requests, yaml\nreturn pandas.DataFrame({'a': [1, 2]})['a'].sum().item()"
    outcome = stepbox("exec", "-l", "python", "--output", "json", stdin=code)
    assert outcome.json()["result"] == 3, outcome.stdout


def test_code_can_not_call_what_it_was_not_granted(stepbox: Stepbox) -> None:
    flow = stepbox.flow("greedy", "flow: greedy\nsteps: [{id: a, javascript: 'return await tools.search_tasks({});'}]")
    document = stepbox("run", flow, "--output", "json").json()
    assert document["status"] == "failed"
    assert "search_tasks" in document["steps"]["a"]["error"]["message"]


def test_validating_is_quick(stepbox: Stepbox) -> None:
    flow = stepbox.flow("sum", SUM)
    began = time.monotonic()
    assert stepbox("validate", flow).status == 0
    assert time.monotonic() - began < 5
