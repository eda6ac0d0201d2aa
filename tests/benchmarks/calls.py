"""What a tool call from code costs besides the tool: the way to the host and back, the policy and the journal.

The code in a ready sandbox times each call by itself; the tool is timed where it is called directly, in this process.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.bootstrap import language, open_service
from engine.progress import NoObserver
from engine.service import FlowText
from engine.store import Store
from steps.tools.contract import ToolContext, ToolServices
from tests.benchmarks.figures import Figure, Size

CALLS = 200
"""Of each tool, by one step."""
READ, WRITE = "search_tasks", "create_task"
ARGUMENTS: dict[str, dict[str, Any]] = {READ: {"limit": 1}, WRITE: {"title": "t", "statusId": "open"}}
FLOW = f"""\
flow: calls
steps:
  - {{id: warm, python: return 1}}
  - id: calls
    tools: [workspace.{READ}, workspace.{WRITE}]
    limits: {{tool_calls: {4 * CALLS}, timeout: 120s}}
    python: |
      import time

      def timed(call, arguments):
          samples = []
          for _ in range({CALLS}):
              began = time.perf_counter()
              call(**arguments)
              samples.append(1000 * (time.perf_counter() - began))
          return samples

      return {{
          "{READ}": timed(tools.{READ}, {ARGUMENTS[READ]!r}),
          "{WRITE}": timed(tools.{WRITE}, {ARGUMENTS[WRITE]!r}),
      }}
output: ${{{{ steps.calls.result }}}}
"""


async def from_code() -> dict[str, list[float]]:
    """Milliseconds of each call, as the code sees it."""
    directory = Path(tempfile.gettempdir())
    flow = FlowText(text=FLOW.encode(), path="calls.yaml", directory=directory)
    async with open_service() as service:
        report = await service.run(service.load(flow), {}, NoObserver(), directory=directory)
    samples = report.run.output
    assert isinstance(samples, dict), report
    return samples


async def directly(store: Store, name: str) -> list[float]:
    """Milliseconds of each call of the tool alone."""
    tool = language().catalogue.tool(f"workspace.{name}")
    services = ToolServices(content=store.content, shared=tempfile.gettempdir())
    samples = []
    for number in range(CALLS):
        context = ToolContext(
            services=services, workspace="default", run_id="r", step_id="s", idempotency_key=str(number)
        )
        began = time.perf_counter()
        await tool.call(ARGUMENTS[name], context)
        samples.append(1000 * (time.perf_counter() - began))
    return samples


async def measure(size: Size) -> Iterator[Figure]:
    """The tools directly and from code in turn, so that a noisy machine disturbs both alike."""
    called: dict[str, list[float]] = {READ: [], WRITE: []}
    alone: dict[str, list[float]] = {READ: [], WRITE: []}
    with tempfile.TemporaryDirectory() as directory:
        async with await Store.open(f"sqlite:///{directory}/alone.db") as store:
            for _ in range(size.rounds):
                for name, samples in (await from_code()).items():
                    called[name] += samples
                    alone[name] += await directly(store, name)
    return figures(called, alone)


def figures(called: dict[str, list[float]], alone: dict[str, list[float]]) -> Iterator[Figure]:
    for name, kind in ((READ, "read"), (WRITE, "write")):
        tool = statistics.median(alone[name])
        each_way = [(sample - tool) / 2 for sample in called[name]]
        yield Figure(key=f"call_{kind}", name=f"{name}, from code", unit="ms", samples=called[name])
        yield Figure(key=f"tool_{kind}", name=f"{name}, the tool alone", unit="ms", samples=alone[name])
        yield Figure(key=f"way_{kind}", name=f"{name}: policy, journal, one way", unit="ms", samples=each_way)
