"""The doctor against real sandboxes, whole ones and ones with something missing: it says exactly what."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from flows.errors import RefusedError
from steps.sandbox import jail
from steps.sandbox.doctor import contents
from steps.sandbox.doctor.canaries import SCRATCH, VARIABLE, plant
from steps.sandbox.doctor.examination import Examination, Proof, examine
from steps.sandbox.doctor.guarantee import Guarantee, Reading, Trial, Verdict, held
from steps.sandbox.doctor.sights import marked
from steps.sandbox.doctor.table import GUARANTEES
from steps.sandbox.limits import Limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Enforcement, Profile, Sandbox
from tests.sandbox import weaknesses
from tests.sandbox.conftest import until
from tests.sandbox.weaknesses import PROC, changed, guest, option, replaced, weaken_jail

Weaken = Callable[[pytest.MonkeyPatch, Path], None]

pytestmark = pytest.mark.only_runner("nsjail")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may")


@pytest.fixture
def tidy_scratch() -> Iterator[None]:
    """The machine's own /dev/shm, in which deno makes a folder where a sandbox has it too."""
    scratch = Path("/dev/shm")
    before = {path.name for path in scratch.iterdir()}
    yield
    for path in scratch.iterdir():
        if path.name == "deno" and path.name not in before:
            shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter; not below tmp_path, which only this one can."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def runner() -> AsyncIterator[NsjailRunner]:
    made = NsjailRunner()
    yield made
    await made.close()


async def examined(runner: NsjailRunner, *guarantees: Guarantee, home: Path = Path("/nowhere")) -> Examination:
    async with plant(home) as canaries:
        chosen = guarantees or GUARANTEES
        return await examine(runner, chosen, canaries, hardening=lambda _enforcement: "allow cgroups")


def having(verdict: Verdict, examination: Examination) -> set[str]:
    assert examination.refused is None
    return {proof.guarantee.id for proof in examination.proofs if proof.verdict == verdict}


def planted_files() -> list[Path]:
    return [path for place in SCRATCH for path in Path(place).glob(f"stepbox-doctor-{os.getpid()}-*")]


def told(examination: Examination) -> Mapping[str, Proof]:
    return {proof.guarantee.id: proof for proof in examination.proofs}


@pytest.mark.both_users
async def test_doctor_finds_nothing_missing(runner: NsjailRunner, folder: Path) -> None:
    examination = await examined(runner, home=folder)
    assert having("missing", examination) == set()
    hard = (await runner.enforcement())["memory"] == "hard"
    assert having("watched", examination) == (set() if hard else {"memory", "cpu"})
    assert hard or os.geteuid() != 0
    assert [proof.guarantee for proof in examination.proofs] == list(GUARANTEES)
    fixes = {proof.fix for proof in examination.proofs}
    assert fixes == ({None} if hard else {None, "allow cgroups"})


async def test_nothing_of_the_doctor_stays(runner: NsjailRunner, folder: Path) -> None:
    await examined(runner, home=folder)
    assert planted_files() == []
    assert VARIABLE not in os.environ
    assert runner.sandboxes == ()


def _no_seccomp(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, weaknesses.without_seccomp)


def _shared_network(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, option("--disable_clone_newnet"))


def _host_directory(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, option("--bindmount_ro", "/var:/data"))


def _writable_host_directory(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.chmod(0o777)
    weaken_jail(monkeypatch, option("--bindmount", f"{folder}:/data"))


def _writable_root(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, option("--rw"))


def _handed_through(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, weaknesses.with_environment, weaknesses.with_descriptor)


def _shared_namespaces(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(
        monkeypatch,
        *(option("--disable_clone_newipc"), option("--disable_clone_newuts")),
        *(replaced(PROC, ["--bindmount", "/proc:/proc"]), option("--bindmount", "/dev/kmsg")),
    )


def _shared_scratch(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, option("--bindmount", "/dev/shm:/dev/shm"))


def _no_sizes(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(
        monkeypatch,
        changed(r"^(none:/(?:work|tmp):tmpfs:)size=\d+,nr_inodes=\d+", r"\1size=99999999,nr_inodes=999999"),
        changed(r"^(none:/dev/shm:tmpfs:)size=\d+", r"\1size=99999999"),
        replaced(["--rlimit_nofile", "1024"], ["--rlimit_nofile", "4000"]),
    )


def _capabilities(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, option("--keep_caps"))


def _new_privileges(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaken_jail(monkeypatch, weaknesses.without_seccomp, option("--disable_no_new_privs"))


def _open_guest(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    weaken_jail(
        monkeypatch,
        guest(folder, "kernel.py", {"int(dumpable)": "1"}),
        guest(folder, "step.js", {"\nremoveGlobals();": "\n"}),
    )


def _no_limits(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaknesses.without_limits_in_cgroups(monkeypatch)


def _careless_host(monkeypatch: pytest.MonkeyPatch, _folder: Path) -> None:
    weaknesses.with_a_careless_host(monkeypatch)


def _named_hosts(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "hosts").write_text("192.0.2.1 example.com\n")
    weaken_jail(monkeypatch, option("--bindmount_ro", f"{folder / 'hosts'}:/etc/hosts"))


WEAKNESSES = [
    pytest.param(_no_seccomp, {"system_calls", "socket_kinds"}, id="no_seccomp", marks=pytest.mark.both_users),
    pytest.param(_shared_network, {"network", "neighbours"}, id="shared_network", marks=pytest.mark.both_users),
    pytest.param(_host_directory, {"host_files"}, id="host_directory"),
    pytest.param(_writable_host_directory, {"host_files", "read_only_root"}, id="writable_host_directory"),
    pytest.param(_writable_root, {"read_only_root"}, id="writable_root"),
    pytest.param(_handed_through, {"environment", "descriptors"}, id="handed_through"),
    pytest.param(
        _shared_namespaces,
        {"shared_memory", "processes", "kernel_settings", "devices", "host_files", "neighbours"},
        id="shared_namespaces",
    ),
    pytest.param(_shared_scratch, {"host_files", "private_scratch", "dev_shm", "single_use"}, id="shared_scratch"),
    pytest.param(_no_sizes, {"disk", "files", "dev_shm", "open_files"}, id="no_sizes"),
    pytest.param(_capabilities, {"privileges", "supervisor"}, id="capabilities"),
    pytest.param(_new_privileges, {"privileges", "system_calls", "socket_kinds"}, id="new_privileges"),
    pytest.param(_open_guest, {"supervisor", "javascript"}, id="open_guest"),
    pytest.param(_no_limits, {"memory", "cpu", "pids"}, id="no_limits", marks=as_root),
    pytest.param(
        _careless_host, {"timeout", "output", "result", "tools", "tool_calls"}, id="careless_host", marks=as_root
    ),
    pytest.param(_named_hosts, {"names"}, id="named_hosts"),
]


def test_each_guarantee_is_missing_in_some_test() -> None:
    found = {"daemons"}
    for weakness in WEAKNESSES:
        missing = weakness.values[1]
        assert isinstance(missing, set)
        found |= missing
    assert found == {guarantee.id for guarantee in GUARANTEES}


@pytest.mark.usefixtures("tidy_scratch")
@pytest.mark.parametrize(("weaken", "missing"), WEAKNESSES)
async def test_weakness_is_found(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch, folder: Path, weaken: Weaken, missing: set[str]
) -> None:
    weaken(monkeypatch, folder)
    examination = await examined(runner)
    evidence = {proof.guarantee.id: proof.evidence for proof in examination.proofs}
    assert having("missing", examination) == missing, evidence
    assert not any("not proved" in evidence[name] for name in missing), evidence
    assert all(told(examination)[name].fix for name in missing)


async def test_a_home_where_sandboxes_may_look_is_found(runner: NsjailRunner) -> None:
    files = next(guarantee for guarantee in GUARANTEES if guarantee.id == "host_files")
    proof = (await examined(runner, files, home=Path("/usr/local"))).proofs[0]
    assert proof.verdict == "missing"
    assert proof.evidence == "the code reaches /usr/local"


async def test_a_machine_that_is_called_as_sandboxes_are(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "stepbox")
    settings = next(guarantee for guarantee in GUARANTEES if guarantee.id == "kernel_settings")
    assert (await examined(runner, settings)).proofs[0].verdict == "enforced"


@as_root
async def test_without_cgroups_limits_are_watched(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    weaknesses.without_cgroups(monkeypatch)
    examination = await examined(runner)
    assert having("missing", examination) == set()
    assert having("watched", examination) == {"memory", "cpu"}
    assert told(examination)["memory"].fix == "allow cgroups"
    assert "limit 1" in told(examination)["cpu"].evidence


@as_root
async def test_daemon_that_outlives_its_step_is_found(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    weaknesses.without_cgroups(monkeypatch)
    weaken_jail(monkeypatch, option("--disable_clone_newpid"), replaced(PROC, ["--bindmount", "/proc:/proc"]))
    daemons = next(guarantee for guarantee in GUARANTEES if guarantee.id == "daemons")
    stayed: list[int] = []
    async with plant() as canaries:
        proof = (await examine(runner, [daemons], canaries, hardening=lambda _enforcement: None)).proofs[0]
        stayed += [sight.pid for sight in marked(f"sbx{canaries.token[:8]}00")]
    assert proof.verdict == "missing"
    assert "still run" in proof.evidence
    assert stayed
    for pid in stayed:
        os.kill(pid, 9)


@pytest.mark.parametrize(("said", "verdict"), [("hard", "enforced"), ("watched", "watched"), ("missing", "missing")])
async def test_verdict_is_no_better_than_what_the_runner_says(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch, said: Enforcement, verdict: Verdict
) -> None:
    async def enforcement() -> Mapping[str, Enforcement]:
        return {"pids": said}

    monkeypatch.setattr(runner, "enforcement", enforcement)
    pids = next(guarantee for guarantee in GUARANTEES if guarantee.id == "pids")
    assert told(await examined(runner, pids))["pids"].verdict == verdict


def guarantee(code: str, limits: Limits | None = None) -> Guarantee:
    return Guarantee(
        id="one",
        subject="machine",
        promise="a promise",
        code=code,
        limits=limits or Limits(),
        read=lambda trial: held(str(trial.result)),
    )


@pytest.mark.parametrize(
    ("code", "evidence"),
    [
        ("raise ValueError('no')", "not proved: the attack failed: ValueError: no"),
        ("while True: pass", "not proved: the attack timed out"),
        ("os.kill(os.getpid(), 9)", "not proved: the attack killed"),
        ("tools.other({})", "not proved: the attack failed"),
    ],
)
async def test_an_attack_that_does_not_end_as_it_should_proves_nothing(
    runner: NsjailRunner, code: str, evidence: str
) -> None:
    proof = (await examined(runner, guarantee(code, Limits(timeout=0.5, grace=0.2)))).proofs[0]
    assert proof.verdict == "missing"
    assert proof.evidence.startswith(evidence)
    assert proof.fix


async def test_a_reading_that_fails_proves_nothing(runner: NsjailRunner) -> None:
    def read(_trial: Trial) -> Reading:
        raise KeyError("found")

    one = guarantee("return 1")
    proof = (
        await examined(runner, Guarantee(id="one", subject="machine", promise="", code=one.code, read=read))
    ).proofs[0]
    assert (proof.verdict, proof.evidence) == ("missing", "not proved: KeyError: 'found'")


async def test_a_limit_that_is_refused_is_missing_with_the_runners_fix(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    weaknesses.without_cgroups(monkeypatch)
    proof = (await examined(runner, guarantee("return 1", Limits(cpu=0.5)))).proofs[0]
    assert proof.verdict == "missing"
    assert proof.evidence.startswith("refused: a limit of 0.5 processors can't be enforced")
    assert "delegated cgroup" in (proof.fix or "")


class Refusing(NsjailRunner):
    """Where no sandbox starts."""

    async def start(self, profile: Profile) -> Sandbox:  # type: ignore[override]
        raise RefusedError("no namespaces here", fix="allow them")


async def test_where_no_sandbox_starts_everything_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Refusing()
    examination = await examined(runner)
    await runner.close()
    assert examination.refused is not None
    assert {proof.verdict for proof in examination.proofs} == {"missing"}
    assert {proof.fix for proof in examination.proofs} == {"allow them"}


@pytest.mark.parametrize(
    "line",
    [
        "[W][2026-01-01T00:00:00+0000][77] runChild():511 clone(flags=CLONE_NEWNS|CLONE_NEWUSER) failed: {}",
        "[E][2026-01-01T00:00:00+0000][77] initCloneNs():369 mount('/', MS_REC|MS_PRIVATE): {}",
        "[F][2026-01-01T00:00:00+0000][77] couldn't write to /proc/77/setgroups: {}",
    ],
)
@pytest.mark.parametrize("reason", ["Permission denied", "Operation not permitted", "No space left on device"])
async def test_why_nsjail_can_not_make_namespaces_is_told(
    runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    """A stand-in for nsjail, which says what nsjail says where the kernel or AppArmor denies it (its issue 236)."""
    said = 'printf "%s\n" "$0" >&2; exit 255'
    monkeypatch.setattr(jail, "command", lambda *_arguments: ["/bin/sh", "-c", said, line.format(reason)])
    examination = await examined(runner)
    assert examination.refused is not None
    assert examination.refused.message.startswith("this machine does not let Stepbox make namespaces: ")
    assert examination.refused.message.endswith(reason)
    assert "[77]" not in examination.refused.message
    assert examination.refused.fix


async def test_an_interrupted_examination_leaves_nothing(runner: NsjailRunner) -> None:
    running = asyncio.create_task(examined(runner))
    await until(lambda: runner.sandboxes)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not runner.sandboxes)
    assert planted_files() == []


async def test_commands_that_shell_steps_miss_are_named(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    # What can't be started is as good as missing.
    hidden = ["/usr/bin/jq", "/usr/bin/git"]
    weaken_jail(monkeypatch, *(option("--bindmount_ro", f"/dev/null:{path}") for path in hidden))
    check = await contents.commands(runner, which=lambda name: f"/usr/bin/{name}" if name == "apt-get" else None)
    assert (check.state, check.message) == ("warning", "shell steps miss jq, git")
    assert (check.fix or "").endswith("apt-get install -y jq git")


async def test_without_bash_shell_steps_do_not_run(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken_jail(monkeypatch, option("--bindmount_ro", "/dev/null:/usr/bin/bash"))
    check = await contents.commands(runner, which=lambda name: f"/usr/bin/{name}" if name == "dnf" else None)
    assert check.state == "failed"
    assert "need bash" in check.message
    assert (check.fix or "").endswith("dnf install -y bash")


async def test_packages_that_python_steps_miss_are_named(runner: NsjailRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken_jail(monkeypatch, changed(r":/opt/packages$", ":/opt/elsewhere"))
    check = await contents.packages(runner, fix="build it")
    assert (check.state, check.fix) == ("warning", "build it")
    assert check.message == "Python steps miss requests, pandas, numpy, httpx, yaml"
