"""Examining this machine: every runner's guarantees, and what else steps need."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from engine.diagnosis import Diagnosis, RunnerDiagnosis, Tried
from engine.premises import checks, versions
from engine.settings import Settings
from flows.contracts import Isolation
from flows.errors import RefusedError
from steps.sandbox import jail
from steps.sandbox.doctor import contents, machine
from steps.sandbox.doctor.canaries import Canaries, plant
from steps.sandbox.doctor.check import Check
from steps.sandbox.doctor.examination import Examination, Proof, examine
from steps.sandbox.doctor.table import GUARANTEES
from steps.sandbox.executor import isolation_refusal
from steps.sandbox.protocol import Enforcement, Runner
from steps.sandbox.select import RUNNERS, RunnerName, RunnerSetting, name_of

OpenRunner = Callable[[RunnerSetting], Awaitable[Runner]]
Listener = Callable[[Tried], None]

_CONTENTS: Mapping[RunnerName, str] = {
    "nsjail": "stepbox init",
    "docker": "stepbox images build",
}
"""What makes the environment of Python steps, by runner."""
_LIMITS_OF_ENGINE = (
    "give the Docker Engine the cgroup controllers memory, cpu and pids (docker info names what is missing)"
)


async def diagnose(
    settings: Settings, open_runner: OpenRunner, notice: Listener, *, only: RunnerName | None = None
) -> Diagnosis:
    """Examine the runners that can be had, or ``only`` one, as if it were the one in use."""
    used = only or await _used(settings.runner.runner, open_runner)
    runners: list[RunnerDiagnosis] = []
    found: list[Check] = [machine.kernel()]
    async with plant(settings.home.home) as canaries:
        for name in RUNNERS if only is None else (only,):
            diagnosis, more = await _examine(name, open_runner, canaries, notice, used=name == used)
            runners.append(diagnosis)
            found += more
    found += await checks(settings)
    isolation = next(runner.isolation for runner in runners if runner.used)
    return Diagnosis(
        runners=runners,
        checks=found,
        versions=versions(),
        minimum=settings.runner.min_isolation,
        unmet=None if isolation is None else isolation_refusal(isolation, settings.runner.min_isolation),
    )


async def _used(setting: RunnerSetting, open_runner: OpenRunner) -> RunnerName:
    """The runner that steps are given by a setting."""
    if setting != "auto":
        return setting
    runner = await open_runner(setting)
    try:
        return name_of(runner)
    finally:
        await runner.close()


async def _examine(
    name: RunnerName, open_runner: OpenRunner, canaries: Canaries, notice: Listener, *, used: bool
) -> tuple[RunnerDiagnosis, list[Check]]:
    """Try the guarantees of a runner, and look at what it needs where it is in use."""
    try:
        runner = await open_runner(name)
    except RefusedError as refused:
        return RunnerDiagnosis(name=name, used=used, isolation=None, examination=None, refused=refused), []
    done = 0

    def tried(proof: Proof) -> None:
        nonlocal done
        done += 1
        notice(Tried(runner=name, proof=proof, done=done, total=len(GUARANTEES)))

    try:
        examination = await examine(runner, GUARANTEES, canaries, hardening=_hardening(runner.isolation), notice=tried)
        found = await _needs(name, runner, examination) if used else []
    finally:
        await runner.close()
    diagnosis = RunnerDiagnosis(
        name=name, used=used, isolation=runner.isolation, examination=examination, refused=examination.refused
    )
    return diagnosis, found


def _hardening(isolation: Isolation) -> Callable[[Mapping[str, Enforcement]], str | None]:
    if isolation == "container":
        return lambda _enforcement: _LIMITS_OF_ENGINE
    return lambda enforcement: machine.cgroups(enforcement).fix


async def _needs(name: RunnerName, runner: Runner, examination: Examination) -> list[Check]:
    found = []
    if name == "nsjail":
        program = jail.find_nsjail() or Path("nsjail")
        found.append(machine.user_namespaces(program, refused=examination.refused))
    if examination.refused is None:
        if name == "nsjail":
            found.append(machine.cgroups(examination.enforcement))
        found.append(await contents.packages(runner, fix=_CONTENTS[name]))
        found.append(await contents.commands(runner))
        found.append(await contents.images(runner))
    return found
