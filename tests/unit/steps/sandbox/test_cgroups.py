"""What sandbox tests on one machine can't show: the files of the other version of cgroups, and orphans."""

import asyncio
import os
from pathlib import Path

import pytest

from steps.sandbox.cgroups import Cgroup, CgroupTree, find_tree
from steps.sandbox.limits import Limits
from tests.sandbox.conftest import until

UNIFIED = Path("/sys/fs/cgroup/unified") if Path("/sys/fs/cgroup/unified").is_dir() else Path("/sys/fs/cgroup")


@pytest.fixture
def version_2(tmp_path: Path) -> tuple[Cgroup, Path]:
    """A directory with the files that the kernel would make in it."""
    for name in ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight"):
        (tmp_path / name).write_text("")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n")
    (tmp_path / "memory.peak").write_text("66000000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    return Cgroup(dict.fromkeys(("memory", "pids", "cpu"), tmp_path), 2), tmp_path


def test_limits_of_version_2_are_written(version_2: tuple[Cgroup, Path]) -> None:
    cgroup, path = version_2
    cgroup.limit(Limits(memory=100_000_000, cpu=0.5, pids=10))
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight")
    assert [(path / name).read_text() for name in names] == ["108000000", "0", "11", "50000 100000", "100"]


def test_counters_of_version_2_are_read(version_2: tuple[Cgroup, Path]) -> None:
    cgroup, path = version_2
    assert (cgroup.oom_kills(), cgroup.peak_memory(), cgroup.cpu_time()) == (2, 66_000_000, 1.5)
    assert cgroup.entries == [path / "cgroup.procs"]


def test_kernel_without_a_peak_gives_none(version_2: tuple[Cgroup, Path]) -> None:
    cgroup, path = version_2
    (path / "memory.peak").unlink()
    assert cgroup.peak_memory() is None


@pytest.mark.skipif(not os.access(UNIFIED, os.W_OK), reason="cgroups of version 2 can't be written here")
async def test_version_2_is_killed_at_once_and_removed() -> None:
    path = UNIFIED / f"stepbox-test-{os.getpid()}"
    path.mkdir()
    cgroup = Cgroup({"memory": path}, 2)
    process = await asyncio.create_subprocess_exec("sh", "-c", f"echo $$ > {path}/cgroup.procs; sleep 60 & sleep 60")
    await until(lambda: len((path / "cgroup.procs").read_text().split()) == 3)
    assert not cgroup.remove()
    cgroup.kill()
    await process.wait()
    await until(cgroup.remove)
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make cgroups here")
def test_tree_removes_what_a_dead_engine_left_and_nothing_else() -> None:
    mine, other = find_tree(), find_tree()
    assert isinstance(mine, CgroupTree)
    assert isinstance(other, CgroupTree)
    kept = other.create().entries[0].parent
    dead = kept.parent.with_name(kept.parent.name.replace(f"-{os.getpid()}-", "-4194305-"))
    (dead / "sandbox-1").mkdir(parents=True)
    again = find_tree()
    assert isinstance(again, CgroupTree)
    assert not dead.exists()
    assert kept.exists()
    for tree in (mine, other, again):
        tree.close()
    assert not kept.exists()
