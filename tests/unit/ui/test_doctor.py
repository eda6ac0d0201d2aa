"""What the doctor tells people, and the status it exits with."""

from io import StringIO

import pytest
from rich.console import Console

from engine.diagnosis import Diagnosis, RunnerDiagnosis
from flows.contracts import Isolation
from flows.errors import RefusedError
from steps.sandbox.doctor.check import Check, State
from steps.sandbox.doctor.examination import Examination, Proof
from steps.sandbox.doctor.guarantee import Guarantee, Subject, Verdict, held
from steps.sandbox.executor import isolation_refusal
from ui.cli import doctor

REFUSED = RefusedError("no namespaces here", fix="allow them")


def proof(name: str, verdict: Verdict = "enforced", subject: Subject = "machine") -> Proof:
    guarantee = Guarantee(
        id=name, subject=subject, promise=f"the promise of {name}", code="", read=lambda _trial: held("")
    )
    fix = None if verdict == "enforced" else "the fix"
    return Proof(guarantee=guarantee, verdict=verdict, evidence=f"evidence of {name}", fix=fix)


def diagnosis(
    *proofs: Proof,
    refused: RefusedError | None = None,
    state: State = "ok",
    minimum: Isolation | None = None,
    more: tuple[RunnerDiagnosis, ...] = (),
) -> Diagnosis:
    examination = Examination(proofs=proofs or (proof("files"),), refused=refused)
    runner = RunnerDiagnosis(name="nsjail", used=True, isolation="jail", examination=examination, refused=refused)
    return Diagnosis(
        runners=(*more, runner),
        checks=[Check(id="home", state=state, message="about the home", fix=None if state == "ok" else "change it")],
        versions={"stepbox": "1", "prefect": None, "kernel": "6.1", "architecture": "x86_64"},
        minimum=minimum,
        unmet=isolation_refusal("jail", minimum),
    )


def shown(found: Diagnosis, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False, width: int = 80) -> str:
    file = StringIO()
    console = Console(
        file=file, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True
    )
    monkeypatch.setattr(doctor, "out", lambda: console)
    doctor._show(found)
    return file.getvalue()


MISSING = RunnerDiagnosis(name="docker", used=False, isolation=None, examination=None, refused=REFUSED)


@pytest.mark.parametrize(
    ("found", "verdict", "status", "last"),
    [
        (diagnosis(proof("files"), proof("cpu")), "enforced", 0, "✓ nsjail enforces all of its 2 guarantees here"),
        (
            diagnosis(proof("files"), proof("cpu", "watched")),
            *("watched", 0, "! nsjail enforces 1 guarantees and watches cpu"),
        ),
        (
            diagnosis(proof("files", "missing"), proof("cpu", "watched")),
            *("missing", 3, "✗ nsjail misses 1 of 2 guarantees: files"),
        ),
        (
            diagnosis(proof("files", "missing"), refused=REFUSED),
            *("missing", 3, "✗ nsjail starts no sandbox here, so steps that run code are refused"),
        ),
        (
            diagnosis(minimum="container"),
            "missing",
            3,
            "✗ refused: code would run at the isolation level 'jail', and 'container' is the minimum here",
        ),
        (diagnosis(minimum="jail"), "enforced", 0, "✓ nsjail enforces all of its 1 guarantees here"),
        (diagnosis(state="warning"), "enforced", 0, "✓ nsjail enforces all of its 1 guarantees here"),
        (diagnosis(state="failed"), "enforced", 1, "✓ nsjail enforces all of its 1 guarantees here"),
        (
            diagnosis(proof("files", "missing"), state="failed"),
            "missing",
            3,
            "✗ nsjail misses 1 of 1 guarantees: files",
        ),
        (diagnosis(more=(MISSING,)), "enforced", 0, "✓ nsjail enforces all of its 1 guarantees here"),
    ],
)
def test_verdict(monkeypatch: pytest.MonkeyPatch, found: Diagnosis, verdict: str, status: int, last: str) -> None:
    assert (found.verdict, found.exit_status) == (verdict, status)
    assert shown(found, monkeypatch).splitlines()[-1] == last
    document = found.document()
    assert (document["verdict"], document["exit_status"]) == (verdict, status)


def test_elsewhere_than_on_a_terminal_each_guarantee_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    long = proof("files")
    long = Proof(guarantee=long.guarantee, verdict="enforced", evidence="word " * 60, fix=None)
    lines = shown(diagnosis(long, proof("cpu", "missing")), monkeypatch).splitlines()
    assert any(line.startswith("✓ enforced  files  word word") and len(line) > 300 for line in lines)
    start = lines.index("✗ missing   cpu    evidence of cpu")
    assert lines[start + 1].strip() == "promised: the promise of cpu"
    assert lines[start + 2].strip() == "fix: the fix"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_terminal_nothing_is_wider_than_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    long = Proof(guarantee=proof("a_long_name").guarantee, verdict="missing", evidence="word " * 60, fix="do " * 60)
    text = shown(diagnosis(long, more=(MISSING,)), monkeypatch, terminal=True, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("word") == 60


def test_a_fix_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(diagnosis(proof("memory", "watched"), proof("cpu", "watched")), monkeypatch)
    assert text.count("the fix") == 1
    assert text.count("fix: as above") == 1


def test_what_does_not_work_is_told_before_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(diagnosis(state="failed"), monkeypatch).splitlines()
    assert lines[-2] == "✗ doesn't work: home"


def test_control_characters_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Proof(guarantee=proof("files").guarantee, verdict="missing", evidence="a\x1b[2Jb", fix="c\x07d")
    text = shown(diagnosis(evil), monkeypatch)
    assert r"a\x1b[2Jb" in text
    assert "\x07" not in text


def test_the_document_has_everything() -> None:
    document = diagnosis(proof("files"), proof("cpu", "watched"), more=(MISSING,)).document()
    assert document["runner"] == "nsjail"
    assert document["isolation"] == {"level": "jail", "minimum": None, "error": None}
    docker, nsjail = document["runners"]
    assert docker["error"] == {"code": "refused", "message": "no namespaces here", "fix": "allow them"}
    assert docker["guarantees"] == []
    assert nsjail["guarantees"][1] == {
        "id": "cpu",
        "subject": "machine",
        "promise": "the promise of cpu",
        "verdict": "watched",
        "evidence": "evidence of cpu",
        "fix": "the fix",
        "duration_ms": 0.0,
    }
    assert document["checks"] == [{"id": "home", "state": "ok", "message": "about the home", "fix": None}]
    assert document["versions"]["prefect"] is None
