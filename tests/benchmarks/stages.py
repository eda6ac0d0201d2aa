"""Where the time of one step in a flow goes: the stages of 40 Python steps in a row, by a clock around each."""

import functools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from engine import attempts
from engine.logbook import Logbook
from engine.orchestrator import prefect_gears
from engine.store.steps import Steps
from steps.sandbox import nsjail
from steps.sandbox.conversation import Conversation
from steps.sandbox.nsjail import NsjailSandbox
from steps.sandbox.pool import Sandboxes
from tests.benchmarks.figures import Figure, Size
from tests.benchmarks.whole_flows import SEQUENTIAL, SMALL, SMALL_N, run_flow, sequential_flow

CLOCKS: dict[str, tuple[Any, str]] = {
    "step": (prefect_gears, "_perform"),
    "attempt": (attempts.Work, "attempt"),
    "begin": (Steps, "start"),
    "finish": (Steps, "finish"),
    "log": (Logbook, "flush"),
    "job": (Sandboxes, "_execute"),
    "take": (Sandboxes, "_take"),
    "execute": (NsjailSandbox, "execute"),
    "limit": (NsjailSandbox, "_guard"),
    "talk": (Conversation, "run"),
    "send": (Conversation, "_send_job"),
    "judge": (nsjail, "outcome"),
}
STAGES: dict[str, tuple[str, Callable[[dict[str, float]], float]]] = {
    "take": ("take a sandbox", lambda t: t["take"]),
    "limit": ("set its limits", lambda t: t["limit"]),
    "send": ("send the job", lambda t: t["send"]),
    "run": ("run the code: start its process, execute, report", lambda t: t["talk"] - t["send"]),
    "receive": ("receive: observe and judge, let the sandbox go", lambda t: t["execute"] - t["limit"] - t["talk"]),
    "store": ("store the attempt's begin, end and log", lambda t: t["begin"] + t["finish"] + t["log"]),
    "attempt": ("the rest of the attempt", lambda t: t["attempt"] - t["job"] - t["begin"] - t["finish"] - t["log"]),
    "prefect": ("Prefect's task", lambda t: t["step"] - t["attempt"]),
    "between": ("between steps: expressions, graph, flow", lambda t: t["flow"] - t["step"]),
}


async def measure(size: Size) -> Iterator[Figure]:
    text = sequential_flow(SEQUENTIAL, SMALL_N)
    await run_flow(text, SMALL)
    samples: dict[str, list[float]] = {key: [] for key in STAGES}
    for _round in range(size.rounds):
        spent = await _clocked(text)
        for key, (_name, of) in STAGES.items():
            samples[key].append(1000 * of(spent) / SEQUENTIAL)
    return (
        Figure(key=f"stage_{key}", name=f"a step: {name}", unit="ms", samples=samples[key])
        for key, (name, _of) in STAGES.items()
    )


async def _clocked(text: str) -> dict[str, float]:
    """Seconds spent within each clocked call during one run."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as patches:
        for key, (owner, name) in CLOCKS.items():
            patches.enter_context(patch.object(owner, name, _clock(spent, key, getattr(owner, name))))
        began = time.perf_counter()
        await run_flow(text, SMALL)
        spent["flow"] = time.perf_counter() - began
    return spent


def _clock(spent: dict[str, float], key: str, call: Any) -> Any:
    def count(began: float) -> None:
        spent[key] += time.perf_counter() - began

    async def finish(result: Awaitable[Any], began: float) -> Any:
        try:
            return await result
        finally:
            count(began)

    @functools.wraps(call)
    def clocked(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = call(*arguments, **named)
        if isinstance(result, Awaitable):
            return finish(result, began)
        count(began)
        return result

    return clocked
