"""The engine is killed at any moment; what it had begun is resumed, and nothing is done twice."""

import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from flows.values import Json
from tests.integration.mortals import Forge, Home

WRITES = 20
KILLS = int(os.environ.get("STEPBOX_TEST_KILLS", "2"))
"""Moments at which engines are killed in each language; each one's successor is killed too. 0: all moments."""
SEED = int(os.environ.get("STEPBOX_TEST_SEED", "0"))

CODE = {
    "python": """
  - id: writes
    tools: [workspace.create_task]
    python: |
      for number in range(20):
          tools.create_task(title=f"t{number}", statusId="open")
      return "done"
""",
    "threads": """
  - id: writes
    tools: [workspace.create_task]
    python: |
      from concurrent.futures import ThreadPoolExecutor
      with ThreadPoolExecutor(7) as pool:
          list(pool.map(lambda number: tools.create_task(title=f"t{number}", statusId="open"), range(20)))
      return "done"
""",
    "javascript": """
  - id: writes
    tools: [workspace.create_task]
    javascript: |
      const numbers = [...Array(20).keys()];
      await Promise.all(numbers.map(number => tools.create_task({title: `t${number}`, statusId: "open"})));
      return "done";
""",
    "equal": """
  - id: writes
    tools: [workspace.create_task]
    javascript: |
      await Promise.all([...Array(20).keys()].map(() => tools.create_task({title: "same", statusId: "open"})));
      return "done";
""",
    "shell": """
  - id: writes
    tools: [workspace.create_task]
    shell: |
      for number in $(seq 0 19); do
        tool workspace.create_task "{\\"title\\": \\"t$number\\", \\"statusId\\": \\"open\\"}" >/dev/null
      done
      echo done
""",
    "http": """
  - id: writes
    tools: [http.request]
    with: {url: "${{ inputs.url }}"}
    python: |
      from concurrent.futures import ThreadPoolExecutor
      def write(number):
          answer = tools.request(url=inputs["url"], method="POST", json={"n": number}, idempotent=True)
          assert answer["status"] == 201, answer
      with ThreadPoolExecutor(3) as pool:
          list(pool.map(write, range(20)))
      return "done"
""",
}
MOMENTS = WRITES * 7
"""At least as many as there are in the calls of each code."""


class Counting(BaseHTTPRequestHandler):
    """A server that honours the Idempotency-Key: it does what it is asked for once for each key."""

    done: ClassVar[Counter[int]] = Counter()
    keys: ClassVar[set[str]] = set()
    requests: ClassVar[list[str]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:
            # Its engine was killed while it sent this.
            return
        key = self.headers["idempotency-key"]
        with self.lock:
            self.requests.append(key)
            if key not in self.keys:
                self.keys.add(key)
                self.done[int(body.split(b":")[1].strip(b" }"))] += 1
        self.send_response(201)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    forge = Forge(tmp_path_factory.mktemp("forge"))
    yield forge
    forge.close()


@pytest.fixture
def home(forge: Forge, tmp_path: Path) -> Home:
    return Home(forge, tmp_path / "home")


@contextmanager
def counting() -> Iterator[str]:
    """The address of a server of that kind, which has counted nothing yet."""
    for kept in (Counting.done, Counting.keys, Counting.requests):
        kept.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(home: Home) -> Iterator[str]:
    with counting() as address:
        home.environment["STEPBOX_INTERNAL"] = address
        yield f"http://{address}/"


def flow(home: Home, text: str, **inputs: str) -> Path:
    declared = "".join(f"\n  {name}: {{type: string, default: {value!r}}}" for name, value in inputs.items())
    path = home.directory.parent / "killed.yaml"
    path.write_text(f"flow: killed\n{f'inputs:{declared}' if inputs else ''}\nsteps:{text}")
    return path


def moments(language: str) -> list[tuple[int, int]]:
    """The moments at which the first engine is killed and the second one."""
    chance = random.Random(f"{language} {SEED}")
    first = range(1, MOMENTS + 1) if KILLS == 0 else sorted(chance.sample(range(1, MOMENTS + 1), KILLS))
    return [(moment, chance.randint(1, MOMENTS)) for moment in first]


@pytest.mark.parametrize("language", [language for language in CODE if language != "http"])
async def test_each_write_to_the_workspace_happens_once(forge: Forge, tmp_path: Path, language: str) -> None:
    wanted = {"same": WRITES} if language == "equal" else {f"t{number}": 1 for number in range(WRITES)}
    for number, kills in enumerate(moments(language)):
        home = Home(forge, tmp_path / str(number) / "home")
        home.directory.mkdir(parents=True)
        report = await home.to_its_end(flow(home, CODE[language]), *kills)
        assert report["status"] == "succeeded", f"{kills} {report}"
        assert await home.titles() == wanted, kills
        calls = await home.calls(report["run_id"])
        assert sum(call.error is None for call in calls) == WRITES, kills


async def test_each_request_with_an_idempotency_key_is_carried_out_once(home: Home, server: str) -> None:
    for number, kills in enumerate(moments("http")):
        at = Home(home.forge, home.directory / str(number) / "home", home.environment)
        at.directory.mkdir(parents=True)
        Counting.done.clear()
        report = await at.to_its_end(flow(at, CODE["http"], url=server), *kills)
        assert report["status"] == "succeeded", (kills, report)
        assert Counting.done == dict.fromkeys(range(WRITES), 1), kills
    assert len(Counting.requests) >= len(Counting.keys)


PLAIN_POST = """
  - id: post
    tools: [http.request]
    with: {{url: "${{{{ inputs.url }}}}"}}
    {retry}
    python: |
      def post():
          return tools.request(url=inputs["url"], method="POST", json={{"n": 1}})["status"]
      {code}
"""
DURING_THE_CALL = 4
"""After the call, before its record."""


async def test_a_write_of_unknown_outcome_is_not_made_again(home: Home, server: str) -> None:
    path = flow(home, PLAIN_POST.format(code="return post()", retry="retry: {attempts: 3}"), url=server)
    report = await home.to_its_end(path, DURING_THE_CALL)
    assert report["status"] == "failed"
    error = report["steps"]["post"]["error"]
    assert error["code"] == "tool_outcome_unknown"
    assert "http.request" in error["message"]
    assert "may have been made or not" in error["message"]
    assert len(Counting.requests) == 1
    assert report["steps"]["post"]["attempts"] == 2


async def test_code_can_decide_about_a_write_of_unknown_outcome(home: Home, server: str) -> None:
    code = """try:
          return post()
      except Exception as error:
          assert error.code == "tool_outcome_unknown", error
          return post()"""
    path = flow(home, PLAIN_POST.format(code=code, retry=""), url=server)
    report = await home.to_its_end(path, DURING_THE_CALL, DURING_THE_CALL)
    assert report["status"] == "failed", "the second engine was killed during the second call as well"
    assert len(Counting.keys) == len(Counting.requests) == 2


async def test_code_that_makes_other_writes_is_told_which_are_missing(home: Home) -> None:
    text = """
  - id: writes
    tools: [workspace.create_task]
    python: |
      import random
      for number in range(3):
          tools.create_task(title=f"t{random.random()}", statusId="open")
"""
    report = await home.to_its_end(flow(home, text), 14)
    assert report["status"] == "failed"
    error = report["steps"]["writes"]["error"]
    assert error["code"] == "journal_mismatch"
    for call in await home.calls(report["run_id"]):
        assert call.arguments["title"] in error["message"]
    assert sum((await home.titles()).values()) == 2


TOGETHER = """
flow: killed
steps:
  - {id: first, tool: workspace.create_task, with: {title: first, statusId: open}}
  - {id: never, tool: workspace.create_task, with: {title: never, statusId: open}, if: "false"}
  - id: each
    tool: workspace.create_task
    for_each: {in: [a, b, c], concurrency: 2}
    with: {title: "each ${{ item }}", statusId: open}
    needs: [first]
  - id: absent
    tool: workspace.get_task
    with: {taskId: nope}
    retry: {attempts: 2, delay: 1ms, jitter: false}
    on_error: continue
    needs: [first]
  - {id: sub, flow: inner, with: {name: one}, needs: [each]}
  - {id: subs, flow: inner, for_each: {in: [two, three]}, with: {name: "${{ item }}"}, needs: [each]}
  - {id: bad, tool: workspace.get_task, with: {taskId: "${{ steps.sub.result }}"}, needs: [sub, subs, absent]}
  - {id: after, tool: workspace.create_task, with: {title: after, statusId: open}}
on_failure:
  - {id: tell, tool: workspace.create_task, with: {title: "tell ${{ run.error.code }}", statusId: open}}
finally:
  - {id: tidy, tool: workspace.create_task, with: {title: tidy, statusId: open}}
  - {id: swept, tool: workspace.create_task, with: {title: "swept ${{ steps.tell.status }}", statusId: open}}
"""
INNER = """
flow: inner
inputs: {name: {type: string}}
steps:
  - {id: begin, tool: workspace.create_task, with: {title: "begin ${{ inputs.name }}", statusId: open}}
  - {id: end, tool: workspace.create_task, with: {title: "end ${{ inputs.name }}", statusId: open}}
finally:
  - {id: inner_tidy, tool: workspace.create_task, with: {title: "tidy ${{ inputs.name }}", statusId: open}}
output: "${{ inputs.name }}"
"""


def outline(report: Json) -> Json:
    return {name: (step["status"], step["result"] is None) for name, step in report["steps"].items()}


async def test_a_run_killed_at_any_write_ends_as_if_nothing_had_been(forge: Forge, tmp_path: Path) -> None:
    """Between steps, in items, in subflows, in on_failure and in finally."""
    (tmp_path / "killed.yaml").write_text(TOGETHER)
    (tmp_path / "inner.yaml").write_text(INNER)
    undisturbed = await Home(forge, tmp_path / "undisturbed").to_its_end(tmp_path / "killed.yaml", where="writes")
    assert undisturbed["status"] == "failed"
    titles = await Home(forge, tmp_path / "undisturbed").titles()
    assert set(titles.values()) == {1}
    assert {"tell step_failed", "tidy", "swept succeeded", "tidy three"} <= set(titles)
    assert "after" not in titles
    last = undisturbed["moments"]
    assert last > 100
    chance = random.Random(SEED)
    first = range(1, last + 1) if KILLS == 0 else sorted(chance.sample(range(1, last + 1), 5 * KILLS))
    for moment in first:
        home = Home(forge, tmp_path / str(moment))
        kills = (moment, chance.randint(1, last))
        report = await home.to_its_end(tmp_path / "killed.yaml", *kills, where="writes")
        assert await home.titles() == titles, kills
        assert report["status"] == "failed", kills
        if "steps" in report:
            assert outline(report) == outline(undisturbed), kills
            assert report["error"] == undisturbed["error"], kills
        for run in await home.runs():
            assert run.ended_at is not None, (kills, run)
            assert run.owner is None
            for attempt in await home.attempts(run.id):
                assert attempt.status.value != "running", (kills, attempt)
