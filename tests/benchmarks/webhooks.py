"""What a webhook costs: from a signed request to its answer, and to the beginning of its run's first step.

Requests go over loopback to a ``stepbox serve`` of its own, one after the other, each once the run before has ended.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.benchmarks.figures import Figure, Size
from tests.benchmarks.served import DEADLINE, Client, serving

REQUESTS = 40
"""For each round."""
FLOW = """\
flow: hooked
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: hooked, secret: hook_key}
    with: {n: "${{ event.body.n }}"}
steps:
  - id: one
    shell: echo $INPUT_N
    with: {n: "${{ inputs.n }}"}
"""


def measure(size: Size) -> Iterator[Figure]:
    accepted: list[float] = []
    begun: list[float] = []
    with serving("", FLOW) as served, served.client() as client:
        for number in range(size.rounds * REQUESTS + 5):
            answer = client.webhook("hooked", number)
            attempts = _ended(client, answer.document["run"])
            if number >= 5:
                accepted.append(answer.took)
                begun.append(1000 * (datetime.fromisoformat(attempts[0]["started_at"]).timestamp() - answer.sent))
    yield Figure(key="webhook_accepted", name="a signed webhook: accepted", unit="ms", samples=accepted)
    yield Figure(key="webhook_begun", name="a signed webhook: its run's first step begun", unit="ms", samples=begun)


def _ended(client: Client, run: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE
    while client.call("GET", f"/api/v1/runs/{run}").document["status"] != "succeeded":
        assert time.monotonic() < deadline, f"run {run} doesn't end"
        time.sleep(0.02)
    items: list[dict[str, Any]] = client.call("GET", f"/api/v1/runs/{run}/steps").document["items"]
    return items
