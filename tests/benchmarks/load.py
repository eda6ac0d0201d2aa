"""Events at a steady rate into a service that drives what they start, and afterwards an audit that nothing was lost.

Signed webhooks and CloudEvents in turn, over loopback, to a ``stepbox serve`` of its own. Each one is sent when its
time has come, whether or not the one before was answered. Three in four start a run with a tool step, one in four a
run with a sandbox.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from tests.benchmarks.figures import Figure, Size
from tests.benchmarks.served import DEADLINE, Client, Served, databases, serving

SENDERS = 8
"""Connections that send: each waits for its answer, so as many may be on their way at once."""
CODED = 4
"""One event in so many starts a run with a sandbox."""
SAMPLED = 200
"""Runs at most of which the first step is looked at."""
_TRIGGERS = """\
flow: {name}
inputs: {{n: {{type: integer}}}}
triggers:
  - id: hook
    webhook: {{path: {name}, secret: hook_key}}
    with: {{n: "${{{{ event.body.n }}}}"}}
  - id: event
    event: {{type: bench.{name}}}
    with: {{n: "${{{{ event.data.n }}}}"}}
steps:
"""
TOOL = _TRIGGERS.format(name="tool") + "  - {id: read, tool: workspace.search_tasks, with: {limit: 1}}\n"
CODE = (
    _TRIGGERS.format(name="code")
    + """\
  - id: run
    shell: echo $INPUT_N
    with: {n: "${{ inputs.n }}"}
"""
)


@dataclass(kw_only=True)
class _Sent:
    """What was acknowledged: by the event's id, when it was sent, and which way."""

    moments: dict[str, tuple[float, str]] = field(default_factory=dict)
    accepted: dict[str, list[float]] = field(default_factory=lambda: {"webhook": [], "event": []})
    memory: list[float] = field(default_factory=list)


def measure(size: Size) -> Iterator[Figure]:
    for name, server in databases().items():
        with serving(server, TOOL, CODE) as served:
            yield from _measured(name, served, size)


def _measured(database: str, served: Served, size: Size) -> Iterator[Figure]:
    with served.client() as client:
        for flow in ("tool", "code"):
            client.webhook(flow, -1)
    began, used = time.monotonic(), served.processor_time()
    sent = _send(served, size)
    busy = (served.processor_time() - used) / 1000 / (time.monotonic() - began)
    with served.client() as client:
        lags, begun = _audit(client, sent)
    of = f"{size.rate:,} events a minute, {database}"
    key = f"load_{database.lower()}"
    for way, what in (("webhook", "a webhook"), ("event", "a CloudEvent")):
        accepted = sent.accepted[way]
        yield Figure(key=f"{key}_{way}", name=f"{of}: {what} accepted", unit="ms", samples=accepted)
    yield Figure(key=f"{key}_begun", name=f"{of}: webhook to its run's first step", unit="ms", samples=begun)
    yield Figure(key=f"{key}_ended", name=f"{of}: sent to its run's end", unit="ms", samples=lags)
    yield Figure(key=f"{key}_memory", name=f"{of}: the service's memory", unit="MB", samples=sent.memory)
    yield Figure(key=f"{key}_busy", name=f"{of}: the service's processor", unit="%", samples=[100 * busy])


def _send(served: Served, size: Size) -> _Sent:
    sent = _Sent()
    total = round(size.rate * size.seconds / 60)
    numbers, lock, start = count(), threading.Lock(), time.monotonic() + 0.1

    def send() -> None:
        with served.client() as client:
            while (number := next(numbers)) < total:
                time.sleep(max(0.0, start + number * 60 / size.rate - time.monotonic()))
                flow = "tool" if number // 2 % CODED else "code"
                if number % 2:
                    way, answer = "webhook", client.webhook(flow, number)
                    event = answer.document["event"]
                else:
                    way, answer = "event", client.events(f"bench.{flow}", range(number, number + 1))
                    event = answer.document["items"][0]["event"]
                with lock:
                    sent.moments[event] = (answer.sent, way)
                    sent.accepted[way].append(answer.took)

    with ThreadPoolExecutor(SENDERS) as senders:
        sending = [senders.submit(send) for _sender in range(SENDERS)]
        while not all(one.done() for one in sending):
            sent.memory.append(served.memory())
            time.sleep(1)
        for one in sending:
            one.result()
    return sent


def _audit(client: Client, sent: _Sent) -> tuple[list[float], list[float]]:
    """From sending to the ends of runs, and from webhooks to first steps, in ms; raises where anything was lost."""
    deadline = time.monotonic() + DEADLINE
    while any(
        client.call("GET", f"/api/v1/runs?status={status}").document["items"] for status in ("queued", "running")
    ):
        if time.monotonic() > deadline:
            raise RuntimeError("runs don't end")
        time.sleep(0.2)
    runs = {run["run_id"]: run for run in client.pages("/api/v1/runs")}
    started: dict[str, str] = {}
    for event in client.pages("/api/v1/events"):
        if event["id"] in sent.moments:
            (delivery,) = event["deliveries"]
            started[event["id"]] = delivery["run"]
    wrong = [event for event in sent.moments if runs.get(started.get(event, ""), {}).get("status") != "succeeded"]
    if wrong or len(set(started.values())) != len(sent.moments):
        raise RuntimeError(f"of {len(sent.moments)} events that were accepted {len(wrong)} have no run that succeeded")
    lags = [_since(moment, runs[started[event]]["ended_at"]) for event, (moment, _way) in sent.moments.items()]
    webhooks = [(event, moment) for event, (moment, way) in sent.moments.items() if way == "webhook"]
    begun = []
    for event, moment in webhooks[:: max(1, len(webhooks) // SAMPLED)]:
        steps = client.call("GET", f"/api/v1/runs/{started[event]}/steps").document["items"]
        begun.append(_since(moment, steps[0]["started_at"]))
    return lags, begun


def _since(moment: float, then: str) -> float:
    return 1000 * (datetime.fromisoformat(then).timestamp() - moment)
