"""What a sandbox by itself costs: a step in a ready one and in a new one, a refill, memory, and the rate in the long run."""

import asyncio
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from steps.sandbox import interpreter, processes
from steps.sandbox.limits import Language, default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job, Runner
from tests.benchmarks.figures import Figure, Size
from tests.sandbox.conftest import RecordingHost, until

TRIVIAL: dict[Language, str] = {"python": "return 1", "javascript": "return 1", "shell": "echo 1"}
NAMES: dict[Language, str] = {"python": "Python", "javascript": "JavaScript", "shell": "shell"}
PER_ROUND = 6
REFILLS = 12
SUSTAINED_SECONDS = 3.0


def job(language: Language, code: str | None = None) -> Job:
    return Job(language=language, code=code or TRIVIAL[language], inputs={}, limits=default_limits(language))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What isolates: how its runner is made, and what keys and names of its figures end in."""

    make: Callable[[], Runner]
    key: str = ""
    name: str = ""


JAIL = Kind(make=NsjailRunner)


async def measure(size: Size) -> Iterator[Figure]:
    await interpreter.ensure()
    figures: list[Figure] = []
    for language in TRIVIAL:
        figures += [await ready(JAIL, language, size.rounds), await new(JAIL, language, size.rounds)]
        figures += [await refill(language, size.rounds), await memory(language)]
    return iter([*figures, *await sustained(JAIL, size.rounds)])


async def ready(kind: Kind, language: Language, rounds: int) -> Figure:
    """A trivial step from the call to its outcome, a sandbox of its profile being ready."""
    pool = Sandboxes(kind.make(), ceiling=1)
    samples = []
    try:
        await pool.execute(job(language), RecordingHost())
        for _step in range(rounds * PER_ROUND):
            await until(lambda: pool.ready)
            began = time.perf_counter()
            await pool.execute(job(language), RecordingHost())
            samples.append(1000 * (time.perf_counter() - began))
    finally:
        await pool.close()
    name = f"{NAMES[language]} step, ready sandbox{kind.name}"
    return Figure(key=f"ready_{language}{kind.key}", name=name, unit="ms", samples=samples)


async def new(kind: Kind, language: Language, rounds: int) -> Figure:
    """The same step where no sandbox and, for a jail, no nsjail has been started."""
    samples = []
    for _step in range(rounds):
        runner = kind.make()
        await runner.enforcement()
        began = time.perf_counter()
        sandbox = await runner.start(profile_of(job(language)))
        await sandbox.execute(job(language), RecordingHost())
        samples.append(1000 * (time.perf_counter() - began))
        await runner.close()
    name = f"{NAMES[language]} step, nothing started{kind.name}"
    return Figure(key=f"new_{language}{kind.key}", name=name, unit="ms", samples=samples)


async def refill(language: Language, rounds: int) -> Figure:
    """Processor time, of the kernel's too, that one more ready sandbox takes from all processes of it and of ours."""
    samples = []
    for _round in range(rounds):
        runner = NsjailRunner()
        await (await runner.start(profile_of(job(language)))).close()
        before = _processor_time()
        for _sandbox in range(REFILLS):
            await (await runner.start(profile_of(job(language)))).close()
        await runner.close()
        samples.append(1000 * (_processor_time() - before) / REFILLS)
    return Figure(
        key=f"refill_{language}", name=f"{NAMES[language]} refill, processor time", unit="ms", samples=samples
    )


async def memory(language: Language) -> Figure:
    """What the processes of a ready sandbox hold, shared pages counted by their share."""
    runner = NsjailRunner()
    boxes = await asyncio.gather(*(runner.start(profile_of(job(language))) for _box in range(4)))
    samples = [
        sum(processes.proportional_memory(pid) for pid in (box.pid, *processes.descendants(box.pid))) / 1e6
        for box in boxes
    ]
    await runner.close()
    return Figure(key=f"memory_{language}", name=f"{NAMES[language]}, a ready sandbox", unit="MB", samples=samples)


async def sustained(kind: Kind, rounds: int) -> list[Figure]:
    """Trivial Python steps a second and processor, as many at once as there are processors, for some seconds.

    What they cost counts the processes of this one, which those of a Docker Engine are not.
    """
    cores = os.cpu_count() or 1
    rates, costs = [], []
    for _round in range(max(rounds // 2, 1)):
        pool = Sandboxes(kind.make(), ceiling=2 * cores)
        await asyncio.gather(*(pool.execute(job("python"), RecordingHost()) for _ in range(cores)))
        done, before, began = 0, _processor_time(), time.perf_counter()

        async def work(pool: Sandboxes, end: float) -> int:
            count = 0
            while time.perf_counter() < end:
                outcome = await pool.execute(job("python"), RecordingHost())
                assert outcome.result == 1, outcome
                count += 1
            return count

        done = sum(await asyncio.gather(*(work(pool, began + SUSTAINED_SECONDS) for _ in range(cores))))
        elapsed = time.perf_counter() - began
        await pool.close()
        rates.append(done / elapsed / cores)
        costs.append(1000 * (_processor_time() - before) / done)
    return [
        Figure(key="sustained", name="Python steps a second and processor", unit="1/s", samples=rates),
        Figure(key="sustained_cost", name="Python step, processor time in all", unit="ms", samples=costs),
    ]


def _processor_time() -> float:
    """Seconds of this process and of the children it has waited for, and of theirs."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
