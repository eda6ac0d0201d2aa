"""Flows that start each other by events, in a service that is killed meanwhile."""

import signal
from collections import Counter

from flows.values import Json
from tests.acceptance.conftest import Stepbox
from tests.acceptance.services import Service, serving, until

TELLER = """\
flow: teller
inputs: {n: {type: integer}}
steps:
  - id: told
    tool: event.emit
    with: {type: order.created, id: "${{ string(inputs.n) }}", data: {n: "${{ inputs.n }}"}}
  - id: by_code
    python: |
      return [tools.event.emit(type="order.paid", data={"n": inputs["n"], "item": i})["triggers"] for i in (1, 2)]
    with: {n: "${{ inputs.n }}"}
    tools: [event.emit]
output: ${{ steps.by_code.result }}
"""
LISTENER = """\
flow: listener
inputs: {n: {type: integer}, of: {type: string}}
triggers:
  - {id: orders, event: {type: "order.*"}, with: {n: "${{ event.data.n }}", of: "${{ event.type }}"}}
steps:
  - {id: s, shell: echo "$INPUT_OF", with: {of: "${{ inputs.of }}"}}
"""
WATCHES = """\
flow: NAME
inputs: {run: {type: string}}
triggers:
  - {id: t, event: {type: "stepbox.run.*", source: "*/flows/OTHER"}, with: {run: "${{ event.data.run }}"}}
steps:
  - {id: s, shell: exit 1}
"""
TOLD = 3


def runs(service: Service, flow: str) -> list[Json]:
    """The oldest first."""
    found: list[Json] = service.call("GET", "/runs", params={"flow": flow, "limit": 1000})["items"]
    return found[::-1]


def ended(service: Service, flow: str, count: int) -> bool:
    found = runs(service, flow)
    return len(found) == count and all(run["ended_at"] is not None for run in found)


def test_what_steps_and_runs_tell_of_starts_flows_once_whatever_is_killed(stepbox: Stepbox) -> None:
    with serving(stepbox) as service:
        for name, text in (
            ("teller", TELLER),
            ("listener", LISTENER),
            ("ping", WATCHES.replace("NAME", "ping").replace("OTHER", "p*ng")),
            ("pong", WATCHES.replace("NAME", "pong").replace("OTHER", "listener")),
        ):
            service.call("PUT", f"/flows/{name}", json={"text": text})
        for n in range(TOLD):
            service.call("POST", "/flows/teller/runs", json={"inputs": {"n": n % 2}})
        until(lambda: runs(service, "pong"))
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
    with serving(stepbox, token=service.token) as again:
        until(lambda: ended(again, "teller", TOLD))
        # By id each order is created once; each call by code tells of another payment.
        listeners = 2 + 2 * TOLD
        until(lambda: ended(again, "listener", listeners))
        until(lambda: ended(again, "pong", listeners))
        until(lambda: ended(again, "ping", listeners))
        assert {run["status"] for run in runs(again, "teller")} == {"succeeded"}
        of = Counter(again.call("GET", f"/runs/{run['run_id']}")["inputs"]["of"] for run in runs(again, "listener"))
        assert of == {"order.created": 2, "order.paid": 2 * TOLD}
        told = [again.call("GET", f"/runs/{run['run_id']}")["inputs"]["run"] for run in runs(again, "pong")]
        assert sorted(told) == sorted(run["run_id"] for run in runs(again, "listener"))
        assert again.stop() == 0
        listed = stepbox("events", "list", "--flow", "ping", "--status", "filtered", "--output", "json")
        assert "a loop" in listed.stdout
