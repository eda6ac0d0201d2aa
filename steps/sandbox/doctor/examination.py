"""Tries every guarantee of a runner and says which hold."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from flows.errors import RefusedError
from flows.values import Json
from steps.sandbox.doctor.canaries import SCRATCH, Canaries
from steps.sandbox.doctor.guarantee import LOOK, AttackFailedError, Guarantee, Trial, Verdict, broken
from steps.sandbox.doctor.sights import MAX_MARK, Sight, marked
from steps.sandbox.limits import Limits
from steps.sandbox.pool import profile_of
from steps.sandbox.protocol import Enforcement, Job, Outcome, Runner, SandboxLostError

AT_ONCE = 2
"""Attacks at the same time: more would compete for the processors and for their own timeouts."""
DEADLINE = 60.0
"""Seconds until an attack that nothing ends is given up."""
GONE_WITHIN = 2.0
"""Seconds after the end of a sandbox in which the kernel must have ended its processes."""

PRELUDE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, inputs["mark"].encode(), 0, 0, 0)
def look(told=None):
    tools.look(told or {})
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What came of trying a guarantee. ``duration`` in seconds; ``fix`` is None where there is nothing to fix."""

    guarantee: Guarantee
    verdict: Verdict
    evidence: str
    fix: str | None
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Every guarantee of a runner. ``refused`` says why no sandbox starts, where none does."""

    proofs: Sequence[Proof]
    enforcement: Mapping[str, Enforcement] = field(default_factory=dict)
    refused: RefusedError | None = None

    @property
    def verdict(self) -> Verdict:
        """The weakest of all."""
        return max((proof.verdict for proof in self.proofs), key=("enforced", "watched", "missing").index)


async def examine(
    runner: Runner,
    guarantees: Sequence[Guarantee],
    canaries: Canaries,
    *,
    hardening: Callable[[Mapping[str, Enforcement]], str | None],
    notice: Callable[[Proof], None] = lambda _proof: None,
) -> Examination:
    """Try the guarantees of a runner, a few at a time; ``notice`` hears of each once it is tried.

    ``hardening`` gives the fix for limits that this machine lets the runner only watch.
    """
    try:
        enforcement = await runner.enforcement()
        await _start_one(runner)
    except RefusedError as refused:
        return Examination(proofs=[_unproved(guarantee, refused) for guarantee in guarantees], refused=refused)
    slots = asyncio.Semaphore(AT_ONCE)
    proofs: dict[str, Proof] = {}

    async def prove(number: int, guarantee: Guarantee) -> None:
        async with slots:
            attack = _Attack(runner, guarantee, canaries, f"sbx{canaries.token[:8]}{number:02d}"[:MAX_MARK])
            proof = await attack.prove(enforcement, hardening(enforcement))
        proofs[guarantee.id] = proof
        notice(proof)

    numbered = list(enumerate(guarantees))
    async with asyncio.TaskGroup() as group:
        for number, guarantee in numbered:
            if not guarantee.alone:
                group.create_task(prove(number, guarantee))
    for number, guarantee in numbered:
        if guarantee.alone:
            await prove(number, guarantee)
    return Examination(proofs=[proofs[guarantee.id] for guarantee in guarantees], enforcement=enforcement)


async def _start_one(runner: Runner) -> None:
    """Start a sandbox for nothing, to hear whether any can be had."""
    job = Job(language="shell", code="true", inputs={}, limits=Limits())
    await (await runner.start(replace(profile_of(job), limits=job.limits))).close()


def _unproved(guarantee: Guarantee, refused: RefusedError) -> Proof:
    return Proof(
        guarantee=guarantee, verdict="missing", evidence=f"no sandbox starts: {refused.message}", fix=refused.fix
    )


class _Attack:
    """One guarantee, tried once. It is the host of its sandboxes (:class:`steps.sandbox.protocol.Host`)."""

    def __init__(self, runner: Runner, guarantee: Guarantee, canaries: Canaries, mark: str) -> None:
        self._runner = runner
        self._guarantee = guarantee
        self._trial = Trial(canaries=canaries, mark=mark, limits=guarantee.limits)
        self._inputs = {**canaries.inputs(), **guarantee.inputs, "mark": mark}

    async def prove(self, enforcement: Mapping[str, Enforcement], hardening: str | None) -> Proof:
        started = time.perf_counter()
        fix: str | None = self._guarantee.fix
        try:
            async with asyncio.timeout(DEADLINE):
                await self._carry_out()
            reading = self._guarantee.read(self._trial)
        except TimeoutError:
            reading = broken(f"the attack had not ended after {DEADLINE:g} s")
        except (AttackFailedError, SandboxLostError) as failure:
            reading = broken(f"not proved: {str(failure) or 'the sandbox ended before it took the attack'}")
        except RefusedError as refused:
            reading, fix = broken(f"refused: {refused.message}"), refused.fix or fix
        except Exception as problem:  # noqa: BLE001 - whatever it is, nothing is proved, and the others are tried
            _log.debug("the guarantee %s could not be tried", self._guarantee.id, exc_info=True)
            reading = broken(f"not proved: {type(problem).__name__}: {problem}")
        await asyncio.to_thread(_remove_from_scratch, self._trial.mark, f"{self._trial.mark}-left")
        verdict = self._verdict(enforcement) if reading.held else "missing"
        return Proof(
            guarantee=self._guarantee,
            verdict=verdict,
            evidence=reading.evidence,
            fix=fix if verdict == "missing" else hardening if verdict == "watched" else None,
            duration=time.perf_counter() - started,
        )

    def _verdict(self, enforcement: Mapping[str, Enforcement]) -> Verdict:
        """Of a guarantee that held: a limit may be held by watching."""
        told = "hard" if self._guarantee.limit is None else enforcement.get(self._guarantee.limit, "missing")
        names: Mapping[Enforcement, Verdict] = {"hard": "enforced", "watched": "watched", "missing": "missing"}
        return names[told]

    async def _carry_out(self) -> None:
        guarantee, trial = self._guarantee, self._trial
        if guarantee.fallback is not None and await self._runner.refusal(guarantee.limits) is not None:
            trial.limits = guarantee.fallback
        trial.outcome = await self._run(guarantee.code, self._inputs, trial.limits)
        trial.lingering = await self._lingering()
        if guarantee.successor is not None:
            trial.other = await self._run(guarantee.successor, self._inputs, trial.limits)

    async def _run(self, code: str, inputs: Mapping[str, Json], limits: Limits) -> Outcome:
        language = self._guarantee.language
        job = Job(
            language=language,
            code=PRELUDE + code if language == "python" else code,
            inputs=inputs,
            limits=limits,
            tools=self._guarantee.tools or (LOOK,),
        )
        sandbox = await self._runner.start(replace(profile_of(job), limits=job.limits))
        try:
            return await sandbox.execute(job, self)
        finally:
            await sandbox.close()

    async def _lingering(self) -> list[Sight]:
        """The attack's processes that are still there, once they have had time to end."""
        deadline = time.monotonic() + GONE_WITHIN
        while True:
            found = await asyncio.to_thread(marked, self._trial.mark)
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.02)

    async def log(self, stream: Literal["stdout", "stderr"], line: str) -> None:
        """Nothing is kept of what attacks print: their outcome has it."""

    async def call_tool(self, name: str, arguments: Json) -> Json:
        if name != LOOK:
            self._trial.calls.append((name, arguments))
            return {}
        self._trial.looks.append(await asyncio.to_thread(marked, self._trial.mark))
        self._trial.found_at_look += await asyncio.to_thread(_remove_from_scratch, self._trial.mark)
        if self._guarantee.neighbour is not None and self._trial.other is None:
            inputs = {**self._inputs, **arguments, "mark": f"{self._trial.mark[:-1]}n"}
            self._trial.other = await self._run(self._guarantee.neighbour, inputs, self._trial.limits)
        return {}


def _remove_from_scratch(*names: str) -> list[str]:
    """The places of this machine where a file of such a name is; it is removed."""
    found = []
    for path in (Path(place) / name for place in {*SCRATCH, tempfile.gettempdir()} for name in names):
        if path.exists():
            found.append(str(path))
            with suppress(OSError):
                path.unlink()
    return found
