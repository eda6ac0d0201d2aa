"""What the doctor reads of the machine: mounts, processes, cgroups, package managers."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from steps.sandbox.doctor import contents, machine
from steps.sandbox.doctor.canaries import documented
from steps.sandbox.doctor.guarantee import LOOK
from steps.sandbox.doctor.mounts import Mount, mounts, parse
from steps.sandbox.doctor.sights import MAX_MARK, marked
from steps.sandbox.doctor.system_calls import CALLS
from steps.sandbox.doctor.table import GUARANTEES

MOUNTINFO = r"""
117 115 254:0 /usr /usr ro,relatime shared:1 - ext4 /dev/vda rw,discard
118 115 0:44 / /my\040files\134 rw,relatime - tmpfs none rw,size=3908k
nonsense
119 115 0:45 / /no/separator rw tmpfs none rw
"""


def test_mountinfo_is_parsed() -> None:
    assert parse(MOUNTINFO.splitlines()) == [
        Mount(device="254:0", place="/usr", kind="ext4", source="/dev/vda"),
        Mount(device="0:44", place="/my files\\", kind="tmpfs", source="none"),
    ]


def test_own_mounts_are_those_of_the_kernel() -> None:
    root = next(mount for mount in mounts() if mount.place == "/proc")
    device = Path("/proc").stat().st_dev
    assert root.device == f"{os.major(device)}:{os.minor(device)}"


@pytest.mark.parametrize(
    ("place", "expected"),
    [("/usr/share", True), ("/usr", True), ("/usrlocal", False), ("/", False), ("/data", False), ("/dev/null", True)],
)
def test_documented_places(place: str, *, expected: bool) -> None:
    assert documented(place) is expected


@pytest.fixture
def named_process() -> Iterator[tuple[str, int]]:
    name = "sbx-unit-test-1"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"printf {name} > /proc/$$/comm; echo; read -r line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield name, process.pid
        process.communicate()


def test_a_marked_process_is_seen(named_process: tuple[str, int]) -> None:
    name, pid = named_process
    (sight,) = marked(name)
    assert sight.pid == pid
    assert sight.status["Uid"].split()[0] == str(os.getuid())
    assert marked("sbx-nobody") == []


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.8.0-45-generic", "ok"),
        ("5.14.0", "ok"),
        ("5.10.0-28-amd64", "warning"),
        ("4.19.0", "failed"),
        ("", "failed"),
    ],
)
def test_kernel(release: str, state: str) -> None:
    check = machine.kernel(release)
    assert check.state == state
    assert (check.fix is None) == (state == "ok")


def mounted(*kinds: str) -> list[Mount]:
    return [Mount(device="0:1", place="/x", kind=kind, source="none") for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "root", "systemd", "fix"),
    [
        (("ext4",), False, True, "mount -t cgroup2"),
        (("cgroup2",), False, True, "systemd-run --user --scope -p Delegate=yes"),
        (("cgroup2",), False, False, "sudo stepbox"),
        (("cgroup", "cgroup2"), False, True, "systemd.unified_cgroup_hierarchy=1"),
        (("cgroup",), False, False, "sudo stepbox"),
        (("cgroup2",), True, True, "--cgroupns=private"),
    ],
)
def test_what_gives_cgroups(kinds: tuple[str, ...], *, root: bool, systemd: bool, fix: str) -> None:
    check = machine.cgroups({"memory": "watched"}, mounted=mounted(*kinds), root=root, systemd=systemd)
    assert check.state == "warning"
    assert fix in (check.fix or "")


def test_hard_limits_need_nothing() -> None:
    check = machine.cgroups({"memory": "hard"}, mounted=[], root=False, systemd=False)
    assert (check.state, check.fix) == ("ok", None)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install -y jq findutils"),
        ("dnf", "dnf install -y jq findutils"),
        ("apk", "apk add jq findutils"),
        ("", "install the packages jq findutils"),
    ],
)
def test_the_command_that_installs_is_of_this_machine(manager: str, command: str) -> None:
    fix = contents.install(["jq", "find", "xargs"], lambda name: name if name == manager else None)
    assert fix.removeprefix("sudo ") == command


def test_the_table_is_whole() -> None:
    ids = [guarantee.id for guarantee in GUARANTEES]
    assert len(set(ids)) == len(ids)
    for guarantee in GUARANTEES:
        assert guarantee.promise
        assert guarantee.fix
        assert not guarantee.neighbour or LOOK in (guarantee.tools or (LOOK,))
    marks = [f"sbx{'0' * 8}{number:02d}" for number in range(len(GUARANTEES))]
    assert max(map(len, marks)) <= MAX_MARK
    assert len({name for name, *_rest in CALLS}) == len(CALLS)


def test_every_guarantee_is_documented() -> None:
    text = (Path(__file__).parents[4] / "docs" / "doctor.md").read_text()
    for guarantee in GUARANTEES:
        assert f"| `{guarantee.id}` | {guarantee.promise} |" in text
