"""Whole flows, from their text to their recorded end, beside the same work without isolation and without Stepbox."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import AsyncClientContext

from engine.bootstrap import open_service
from engine.progress import NoObserver
from engine.service import FlowText
from tests.benchmarks.figures import Figure, Size

FIBO = "def fibo(n):\n    return n if n < 2 else fibo(n - 1) + fibo(n - 2)\n"
SEQUENTIAL, HEAVY, WIDE, AT_ONCE = 40, 10, 100, 10
SMALL_N, SMALL, LARGE_N, LARGE = 10, 55, 33, 3_524_578
"""fibo(10) is 55 and fibo(33) is 3,524,578 (OEIS A000045)."""


def indented(code: str, spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line}\n" for line in code.splitlines())


def sequential_flow(steps: int, n: int) -> str:
    """Python steps in a row, each computing fibo(n)."""
    body = indented(f"{FIBO}return fibo({n})", 6)
    text = "".join(f"  - id: s{number}\n    python: |\n{body}" for number in range(steps))
    return f"flow: sequential\nsteps:\n{text}output: ${{{{ steps.s{steps - 1}.result }}}}\n"


def wide_flow() -> str:
    """One Python step for each of 100 items, ten at once."""
    body = indented(f"{FIBO}return fibo({SMALL_N})", 6)
    each = f"    for_each: {{in: '${{{{ inputs.n }}}}', concurrency: {AT_ONCE}}}\n"
    items = f"inputs:\n  n: {{type: array, default: {list(range(WIDE))}}}\n"
    return f"flow: wide\n{items}steps:\n  - id: s\n{each}    python: |\n{body}output: ${{{{ steps.s.result }}}}\n"


async def run_flow(text: str, expected: Any) -> None:
    directory = Path(tempfile.gettempdir())
    flow = FlowText(text=text.encode(), path="flow.yaml", directory=directory)
    async with open_service() as service:
        report = await service.run(service.load(flow), {}, NoObserver(), directory=directory)
    assert report.run.output == expected, report


async def plain_processes(count: int, n: int, expected: int, *, at_once: int = 1) -> None:
    """The same code in ordinary, unisolated Python processes."""
    slots = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with slots:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", f"{FIBO}print(fibo({n}))", stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()
        assert output == f"{expected}\n".encode(), output

    await asyncio.gather(*(one() for _ in range(count)))


async def prefect_tasks(count: int, n: int, expected: int, *, at_once: int = 1) -> None:
    """The same code as plain Prefect tasks, in this process, isolated from nothing."""
    namespace: dict[str, Any] = {}
    exec(FIBO, namespace)

    async def step(number: int) -> int:
        result: int = namespace["fibo"](n)
        return result

    task: Any = Task(step, cache_policy=NO_CACHE, persist_result=False, result_storage=Path(tempfile.gettempdir()))
    slots = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with slots:
            assert await task(number) == expected

    async with AsyncClientContext():
        await asyncio.gather(*(one(number) for number in range(count)))


async def measure(size: Size) -> Iterator[Figure]:
    """Each flow in turn with what it is compared to, so that a noisy machine disturbs all alike."""
    small, large, wide = sequential_flow(SEQUENTIAL, SMALL_N), sequential_flow(HEAVY, LARGE_N), wide_flow()
    contestants: dict[str, tuple[str, Callable[[], Awaitable[None]]]] = {
        "sequential": ("40 × fibo(10), steps of a flow", lambda: run_flow(small, SMALL)),
        "sequential_plain": ("40 × fibo(10), plain python3 -I", lambda: plain_processes(SEQUENTIAL, SMALL_N, SMALL)),
        "sequential_prefect": ("40 × fibo(10), plain Prefect tasks", lambda: prefect_tasks(SEQUENTIAL, SMALL_N, SMALL)),
        "heavy": ("10 × fibo(33), steps of a flow", lambda: run_flow(large, LARGE)),
        "heavy_plain": ("10 × fibo(33), plain python3 -I", lambda: plain_processes(HEAVY, LARGE_N, LARGE)),
        "wide": ("100 items, ten at once, for-each step", lambda: run_flow(wide, [SMALL] * WIDE)),
        "wide_plain": (
            "100 items, ten at once, plain python3 -I",
            lambda: plain_processes(WIDE, SMALL_N, SMALL, at_once=AT_ONCE),
        ),
        "wide_prefect": (
            "100 items, ten at once, plain Prefect tasks",
            lambda: prefect_tasks(WIDE, SMALL_N, SMALL, at_once=AT_ONCE),
        ),
    }
    await run_flow(small, SMALL)  # warms imports, the step interpreter's files and the database
    samples: dict[str, list[float]] = {key: [] for key in contestants}
    for number in range(size.rounds):
        for key, (_name, work) in contestants.items():
            if key.startswith("heavy") and number >= max(size.rounds // 2, 1):
                continue
            began = time.perf_counter()
            await work()
            samples[key].append(1000 * (time.perf_counter() - began))
    return (Figure(key=key, name=name, unit="ms", samples=samples[key]) for key, (name, _work) in contestants.items())
