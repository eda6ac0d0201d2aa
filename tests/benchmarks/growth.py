"""Whether a run costs the same after thousands of others: time, processor time and memory of one service.

One service makes many runs. Then a second, new one makes its first, and both are measured in turn, so that a busy
machine disturbs both alike. The runs have one step, which reads the workspace.
"""

import time
from collections.abc import Iterator
from statistics import median

from tests.benchmarks.figures import Figure, Size
from tests.benchmarks.served import DEADLINE, Client, Served, databases, serving

WARM = 10
"""Runs that the new service makes before it is measured."""
WINDOW = 50
"""Runs, or requests, of one service before it is the other's turn."""
BATCH = 100
"""Events that are sent at once, as long as no more than so many runs haven't ended."""
BURST = 1000
"""Events that come all at once, at most; no more than there are runs."""
CHECKPOINTS = 10
FLOW = """\
flow: tool
inputs: {n: {type: integer}}
triggers:
  - id: result
    webhook: {path: result, secret: hook_key, respond: result}
    with: {n: "${{ event.body.n }}"}
  - id: accepted
    webhook: {path: accepted, secret: hook_key}
    with: {n: "${{ event.body.n }}"}
  - id: event
    event: {type: bench.tool}
    with: {n: "${{ event.data.n }}"}
steps:
  - {id: read, tool: workspace.search_tasks, with: {limit: 1}}
"""


def measure(size: Size) -> Iterator[Figure]:
    for name, server in databases().items():
        with serving(server, FLOW) as old, old.client() as client:
            yield from _filled(name, old, client, size)
            with serving(server, FLOW) as new, new.client() as first:
                yield from _compared(name, (old, client), (new, first), size)


def _filled(database: str, served: Served, client: Client, size: Size) -> Iterator[Figure]:
    """Make all the runs: how many a second, what memory they leave, and how long a burst takes."""
    key = database.lower()
    _windows(client, "result", WARM)
    memory, rates = [served.memory()], []
    made = served.runs_ended(client)
    share = (size.runs - made) // CHECKPOINTS
    for _checkpoint in range(CHECKPOINTS):
        began, goal = time.monotonic(), made + share
        sent = made
        while made < goal:
            if sent < goal and sent - made <= BATCH:
                client.events("bench.tool", range(sent, min(sent + BATCH, goal)))
                sent = min(sent + BATCH, goal)
            time.sleep(0.02)
            made = served.runs_ended(client)
            if time.monotonic() > began + DEADLINE + share:
                raise RuntimeError(f"of {sent} runs only {made} end")
        rates.append(share / (time.monotonic() - began))
        memory.append(served.memory())
    yield Figure(key=f"runs_{key}", name=f"runs of a tool step, {database}", unit="1/s", samples=rates)
    for part, name in ((1, "a tenth"), (5, "half"), (10, "all")):
        what = f"{database}: the service's memory after {name} of {size.runs:,} runs"
        yield Figure(key=f"memory_{part}_{key}", name=what, unit="MB", samples=[memory[part]])
    grown = 1000 * (memory[-1] - memory[len(memory) // 2]) / (share * (CHECKPOINTS - CHECKPOINTS // 2))
    yield Figure(key=f"memory_run_{key}", name=f"{database}: a run of the later half", unit="kB", samples=[grown])
    burst = min(BURST, size.runs)
    began = time.monotonic()
    client.events("bench.tool", range(burst))
    while served.runs_ended(client) < made + burst:
        time.sleep(0.02)
        if time.monotonic() > began + DEADLINE * 3:
            raise RuntimeError("a burst of events doesn't end")
    took = 1000 * (time.monotonic() - began)
    yield Figure(
        key=f"burst_{key}", name=f"{burst:,} events at once, {database}: the last ended", unit="ms", samples=[took]
    )


def _compared(database: str, old: tuple[Served, Client], new: tuple[Served, Client], size: Size) -> Iterator[Figure]:
    _windows(new[1], "result", WARM)
    walls: dict[str, list[float]] = {}
    for _round in range(size.rounds):
        for age, (served, client) in (("new", new), ("old", old)):
            used = served.processor_time()
            walls.setdefault(f"wall_{age}", []).append(median(_windows(client, "result", WINDOW)))
            walls.setdefault(f"cpu_{age}", []).append((served.processor_time() - used) / WINDOW)
            walls.setdefault(f"accepted_{age}", []).append(median(_windows(client, "accepted", WINDOW)))
            _wait_for_quiet(client)
            for key, path in (("runs", "/api/v1/runs"), ("events", "/api/v1/events")):
                walls.setdefault(f"{key}_{age}", []).append(_listed(client, path))
    names = {
        "wall": "a run, from request to result",
        "cpu": "a run, processor time",
        "accepted": "a webhook accepted",
        "runs": "50 runs listed",
        "events": "50 events listed",
    }
    for key, what in names.items():
        for age, after in (("new", f"after {WARM} runs"), ("old", f"after {size.runs:,}")):
            samples = walls[f"{key}_{age}"]
            name = f"{database}: {what}, {after}"
            yield Figure(key=f"growth_{key}_{age}_{database.lower()}", name=name, unit="ms", samples=samples)


def _windows(client: Client, path: str, count: int) -> list[float]:
    return [client.webhook(path, number).took for number in range(count)]


def _listed(client: Client, path: str) -> float:
    return median(client.call("GET", path).took for _time in range(5))


def _wait_for_quiet(client: Client) -> None:
    deadline = time.monotonic() + DEADLINE
    while any(
        client.call("GET", f"/api/v1/runs?status={status}").document["items"] for status in ("queued", "running")
    ):
        if time.monotonic() > deadline:
            raise RuntimeError("runs don't end")
        time.sleep(0.05)
