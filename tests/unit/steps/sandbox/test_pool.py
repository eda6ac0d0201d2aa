"""The pool, over a runner whose sandboxes live in memory."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from flows.contracts import Isolation
from flows.errors import RefusedError
from flows.values import Json, StepStatus
from steps.sandbox.limits import Limits, default_limits
from steps.sandbox.pool import LOOKAHEAD, Sandboxes, profile_of
from steps.sandbox.protocol import Enforcement, Host, Job, Outcome, Profile, SandboxLostError, SandboxUnfitError
from tests.sandbox.conftest import until


class MemorySandbox:
    """Takes one job, "runs" it until it is told to go on, and never another."""

    def __init__(self, profile: Profile, runner: "MemoryRunner") -> None:
        self.profile = profile
        self.used = 0
        self.close_error: Exception | None = None
        self._runner = runner
        self._gone = asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self._gone.is_set()

    async def ended(self) -> None:
        await self._gone.wait()

    async def execute(self, job: Job, host: Host) -> Outcome:
        if not self.alive:
            raise SandboxLostError
        if self._runner.fixed_limits and job.limits != (self.profile.limits or default_limits(job.language)):
            self.end()
            raise SandboxUnfitError
        self.used += 1
        self._runner.running += 1
        self._runner.most_running = max(self._runner.most_running, self._runner.running)
        try:
            await self._runner.go_on.wait()
        finally:
            self._runner.running -= 1
            self.end()
        return Outcome(status=StepStatus.SUCCEEDED, result=job.code, isolation="jail", duration=0)

    async def close(self) -> None:
        await self._runner.may_close.wait()
        self.end()
        if self.close_error is not None:
            raise self.close_error

    def end(self) -> None:
        self._gone.set()


class MemoryRunner:
    isolation: Isolation = "jail"

    def __init__(self) -> None:
        self.started: list[MemorySandbox] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.refuses = False
        self.fixed_limits = False
        self.starting = 0
        self.running = 0
        self.most_running = 0
        self.closed = False

    async def enforcement(self) -> Mapping[str, Enforcement]:
        return {}

    async def refusal(self, limits: Limits, runtime: str | None = None) -> RefusedError | None:
        return None

    async def start(self, profile: Profile) -> MemorySandbox:
        self.starting += 1
        try:
            await self.may_start.wait()
            await asyncio.sleep(0)
        finally:
            self.starting -= 1
        if self.refuses:
            raise RefusedError("no sandbox today")
        self.started.append(MemorySandbox(profile, self))
        return self.started[-1]

    async def close(self) -> None:
        self.closed = True


class SilentHost:
    async def log(self, stream: str, line: str) -> None: ...
    async def call_tool(self, name: str, arguments: Json) -> Json:
        raise NotImplementedError


def job(code: str = "return 1") -> Job:
    return Job(language="python", code=code, inputs={}, limits=default_limits("python"))


def ready(runner: MemoryRunner) -> list[MemorySandbox]:
    """Those that live and have no job."""
    return [box for box in runner.started if box.alive and not box.used]


async def settle() -> None:
    for _turn in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def runner() -> MemoryRunner:
    return MemoryRunner()


async def test_nothing_is_started_that_nobody_expects(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    await settle()
    assert runner.started == []
    await pool.execute(job(), SilentHost())
    await settle()
    assert len(runner.started) == 1
    await pool.close()


async def test_no_more_is_started_than_expected_and_each_is_used_once(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    pool.expect(profile_of(job()), 7)
    await settle()
    assert pool.ready == LOOKAHEAD
    for _number in range(7):
        await pool.execute(job(), SilentHost())
        await settle()
    assert [sandbox.used for sandbox in runner.started] == [1] * 7
    await pool.close()
    assert runner.closed


async def test_service_keeps_as_many_ready_as_were_in_use_at_once(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=3)
    await pool.execute(job(), SilentHost())
    await settle()
    assert pool.ready == 2
    runner.go_on.clear()
    running = [asyncio.create_task(pool.execute(job(), SilentHost())) for _number in range(5)]
    await until(lambda: pool.ready == 3)
    runner.go_on.set()
    await asyncio.gather(*running)
    await pool.close()


async def test_burst_has_the_processors_for_itself_first(runner: MemoryRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    pool = Sandboxes(runner, ceiling=3)
    await pool.execute(job(), SilentHost())
    await settle()
    runner.go_on.clear()
    running = [asyncio.create_task(pool.execute(job(), SilentHost())) for _number in range(2)]
    await settle()
    assert (runner.running, pool.ready, runner.starting) == (2, 0, 0)
    await until(lambda: pool.ready == 3)
    runner.go_on.set()
    await asyncio.gather(*running)
    await pool.close()


async def test_service_lets_its_ready_sandboxes_go_when_nothing_comes(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=3, idle_after=0.05)
    await pool.execute(job(), SilentHost())
    await settle()
    await until(lambda: not pool.ready)
    await settle()
    assert not any(sandbox.alive for sandbox in runner.started)
    await pool.execute(job(), SilentHost())
    await settle()
    assert pool.ready == 2
    await pool.close()


async def test_service_keeps_fewer_once_fewer_were_wanted_for_a_while(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=8, idle_after=0.2)
    runner.go_on.clear()
    running = [asyncio.create_task(pool.execute(job(), SilentHost())) for _number in range(5)]
    await settle()
    runner.go_on.set()
    await asyncio.gather(*running)
    await until(lambda: pool.ready == 6)
    # One after the other from now on, without a pause in which all of them would be let go.
    async with asyncio.timeout(20):
        while pool.ready != 2:
            await pool.execute(job(), SilentHost())
            await asyncio.sleep(0.01)
    await pool.close()


async def test_the_ceiling_is_for_all_profiles_together_and_the_last_used_come_first(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=3)
    first, second = job("import json"), job("import csv")
    await pool.execute(first, SilentHost())
    await settle()
    assert [box.profile.preload for box in ready(runner)] == [{"json"}] * 2
    await pool.execute(second, SilentHost())
    await settle()
    assert sorted(min(box.profile.preload) for box in ready(runner)) == ["csv", "csv", "json"]
    assert pool.ready == 3
    await pool.execute(first, SilentHost())
    await settle()
    assert sorted(min(box.profile.preload) for box in ready(runner)) == ["csv", "json", "json"]
    await pool.close()


async def test_the_floor_is_ready_for_each_language_from_the_start_to_the_end(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, floor=1, ceiling=4, idle_after=1.0)
    assert pool.ready == 0
    pool.warm()
    await settle()
    assert sorted(box.profile.language for box in ready(runner)) == ["javascript", "python", "shell"]
    await pool.execute(job(), SilentHost())
    await settle()
    assert sorted(box.profile.language for box in ready(runner)) == ["javascript", "python", "python", "shell"]
    await until(lambda: pool.ready == 3)
    assert sorted(box.profile.language for box in ready(runner)) == ["javascript", "python", "shell"]
    await pool.close()
    assert ready(runner) == []


async def test_refilling_leaves_running_steps_their_processors(
    runner: MemoryRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    pool = Sandboxes(runner, ceiling=10)
    runner.go_on.clear()
    running = [asyncio.create_task(pool.execute(job(), SilentHost())) for _number in range(3)]
    await settle()
    runner.may_start.clear()
    for box in ready(runner):
        box.end()
    await settle()
    assert runner.starting == 2
    runner.go_on.set()
    await asyncio.gather(*running)
    await settle()
    assert runner.starting == 4
    runner.may_start.set()
    await pool.close()


async def test_profiles_that_nobody_uses_any_more_are_forgotten(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=3, idle_after=0.02)
    for number in range(5):
        await pool.execute(replace(job(), limits=replace(default_limits("python"), disk=number + 1)), SilentHost())
    await until(lambda: not pool._shelves)
    assert ready(runner) == []
    await pool.close()


async def test_service_starts_ahead_what_a_run_expects_and_then_follows_demand(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=1)
    pool.expect(profile_of(job()), 3)
    await settle()
    assert pool.ready == LOOKAHEAD
    for _number in range(6):
        await pool.execute(job(), SilentHost())
        await settle()
    assert pool.ready == 1
    await pool.close()


async def test_ready_sandbox_that_ends_is_replaced(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    pool.expect(profile_of(job()), 1)
    await settle()
    runner.started[0].end()
    await settle()
    assert (pool.ready, len(runner.started)) == (1, 2)
    await pool.close()


async def test_jobs_beyond_the_concurrency_wait_and_are_counted(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, concurrency=2)
    runner.go_on.clear()
    running = [asyncio.create_task(pool.execute(job(str(number)), SilentHost())) for number in range(5)]
    await settle()
    assert (runner.running, pool.queued) == (2, 3)
    runner.go_on.set()
    assert [outcome.result for outcome in await asyncio.gather(*running)] == ["0", "1", "2", "3", "4"]
    assert runner.most_running == 2
    await pool.close()


async def test_cancelled_job_frees_its_place(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, concurrency=1)
    runner.go_on.clear()
    first, second = (asyncio.create_task(pool.execute(job(), SilentHost())) for _number in range(2))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    runner.go_on.set()
    assert (await second).status is StepStatus.SUCCEEDED
    await pool.close()


@pytest.mark.parametrize("turns", range(8))
async def test_job_cancelled_at_any_moment_of_the_handover_leaks_no_sandbox(runner: MemoryRunner, turns: int) -> None:
    pool = Sandboxes(runner)
    runner.may_start.clear()
    pool.expect(profile_of(job()), 1)
    running = asyncio.create_task(pool.execute(job(), SilentHost()))
    runner.go_on.clear()
    await settle()
    runner.may_start.set()
    for _turn in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await settle()
    assert not any(sandbox.alive for sandbox in runner.started)
    await pool.close()


async def test_refusal_to_start_reaches_the_job_and_the_next_tries_again(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    runner.refuses = True
    pool.expect(profile_of(job()), 2)
    await settle()
    with pytest.raises(RefusedError, match="no sandbox today"):
        await pool.execute(job(), SilentHost())
    runner.refuses = False
    assert (await pool.execute(job(), SilentHost())).status is StepStatus.SUCCEEDED
    await pool.close()


async def test_closing_waits_for_running_jobs(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    runner.go_on.clear()
    running = asyncio.create_task(pool.execute(job(), SilentHost()))
    await settle()
    closing = asyncio.create_task(pool.close())
    await settle()
    assert not closing.done()
    runner.go_on.set()
    await closing
    assert running.done()
    with pytest.raises(RuntimeError, match="closed"):
        await pool.execute(job(), SilentHost())


async def test_closing_waits_for_surplus_sandboxes_that_are_being_closed(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner, ceiling=2, idle_after=0.05)
    await pool.execute(job(), SilentHost())
    runner.may_close.clear()
    await until(lambda: len(runner.started) > 2 and not pool.ready)
    surplus = [sandbox for sandbox in runner.started if sandbox.alive]
    closing = asyncio.create_task(pool.close())
    await settle()
    assert (len(surplus), closing.done()) == (2, False)
    runner.may_close.set()
    await closing
    assert not any(sandbox.alive for sandbox in surplus)


async def test_runner_is_closed_where_a_sandbox_can_not_be(runner: MemoryRunner) -> None:
    pool = Sandboxes(runner)
    pool.expect(profile_of(job()), 2)
    await settle()
    runner.started[0].close_error = OSError("busy")
    await pool.close()
    assert runner.closed
    assert not any(sandbox.alive for sandbox in runner.started)


@pytest.mark.parametrize(
    ("code", "preload"),
    [
        ("import pandas as pd", {"pandas"}),
        ("  import json, numpy as np", {"json", "numpy"}),
        ("from requests.adapters import HTTPAdapter", {"requests"}),
        ("import os, evil_module", set()),
        ("# import pandas\nx = 'import pandas'", set()),
    ],
)
def test_profile_preloads_what_the_code_imports_and_we_trust(code: str, preload: set[str]) -> None:
    assert profile_of(job(code)).preload == preload


async def test_job_whose_limits_must_be_there_at_the_start_gets_a_sandbox_that_has_them(runner: MemoryRunner) -> None:
    runner.fixed_limits = True
    pool = Sandboxes(runner)
    unusual = replace(job("1"), limits=replace(default_limits("python"), pids=10))
    assert (await pool.execute(unusual, SilentHost())).result == "1"
    assert [box.profile.limits for box in runner.started] == [None, unusual.limits]
    assert not any(box.alive for box in runner.started)
    assert (await pool.execute(job("2"), SilentHost())).result == "2"
    assert len(runner.started) == 3
    await pool.close()
