"""What a doctor found: how each runner isolates on this machine, and what else steps need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.contracts import Isolation
from flows.errors import RefusedError, StepboxError
from flows.values import Json
from steps.sandbox.doctor.check import Check
from steps.sandbox.doctor.examination import Examination, Proof
from steps.sandbox.doctor.guarantee import Verdict
from steps.sandbox.select import RunnerName

HOLDS, BROKEN, REFUSED = 0, 1, 3


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A guarantee was tried: the ``done``-th of ``total`` of a runner."""

    runner: RunnerName
    proof: Proof
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class RunnerDiagnosis:
    """What came of one runner; ``refused`` says why it can't be had, and then there may be no ``examination``."""

    name: RunnerName
    used: bool
    isolation: Isolation | None
    examination: Examination | None
    refused: RefusedError | None = None

    @property
    def proofs(self) -> Sequence[Proof]:
        return () if self.examination is None else self.examination.proofs

    def count(self, verdict: Verdict) -> int:
        return sum(proof.verdict == verdict for proof in self.proofs)

    @property
    def verdict(self) -> Verdict:
        """The weakest of its guarantees."""
        return "missing" if self.examination is None else self.examination.verdict

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "runner": self.name,
            "used": self.used,
            "isolation": self.isolation,
            "verdict": self.verdict,
            "error": _error(self.refused),
            "guarantees": [_proof(proof) for proof in self.proofs],
        }


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything that was found. ``unmet`` says why the runner in use isolates too little for this installation."""

    runners: Sequence[RunnerDiagnosis]
    checks: Sequence[Check]
    versions: Mapping[str, str | None]
    minimum: Isolation | None
    unmet: RefusedError | None

    @property
    def used(self) -> RunnerDiagnosis:
        """The runner that steps are given, or the one that was asked about."""
        return next(runner for runner in self.runners if runner.used)

    @property
    def verdict(self) -> Verdict:
        """That of the runner in use; missing where it isolates too little."""
        return "missing" if self.unmet is not None else self.used.verdict

    @property
    def exit_status(self) -> int:
        """3 where isolation is missing, 1 where something else that steps need doesn't work, else 0."""
        if self.verdict == "missing":
            return REFUSED
        return BROKEN if any(check.state == "failed" for check in self.checks) else HOLDS

    def document(self) -> dict[str, Json]:
        """The JSON document of ``stepbox doctor --output json``."""
        return {
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "runner": self.used.name,
            "isolation": {"level": self.used.isolation, "minimum": self.minimum, "error": _error(self.unmet)},
            "runners": [runner.document() for runner in self.runners],
            "checks": [
                {"id": check.id, "state": check.state, "message": check.message, "fix": check.fix}
                for check in self.checks
            ],
            "versions": dict(self.versions),
        }


def _proof(proof: Proof) -> dict[str, Json]:
    return {
        "id": proof.guarantee.id,
        "subject": proof.guarantee.subject,
        "promise": proof.guarantee.promise,
        "verdict": proof.verdict,
        "evidence": proof.evidence,
        "fix": proof.fix,
        "duration_ms": round(proof.duration * 1000, 3),
    }


def _error(error: StepboxError | None) -> dict[str, Json] | None:
    return None if error is None else {"code": error.code, "message": error.message, "fix": error.fix}
