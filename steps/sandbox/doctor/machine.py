"""What of this machine the jail depends on: the kernel, user namespaces, cgroups."""

import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.errors import RefusedError
from steps.sandbox import namespaces
from steps.sandbox.doctor.check import Check
from steps.sandbox.doctor.mounts import Mount, mounts
from steps.sandbox.protocol import Enforcement

OLDEST_KERNEL = (5, 3)
"""Linux that has pidfd_open(2), by which sandboxes are ended."""
COUNTING_KERNEL = (5, 14)
"""Linux that counts RLIMIT_NPROC within a user namespace (setrlimit(2))."""
_BY_SYSTEMD = "systemd-run --user --scope -p Delegate=yes stepbox …"
_AS_ROOT = "run Stepbox as root: sudo stepbox …"


def kernel(release: str = platform.release()) -> Check:
    """Whether the kernel is new enough."""
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    message = f"Linux {release} on {platform.machine()}"
    if version < OLDEST_KERNEL:
        return Check(id="kernel", state="failed", message=f"{message} is too old", fix="boot Linux 5.14 or later")
    if version < COUNTING_KERNEL:
        less = f"{message}: without cgroups, the limit of processes counts all of this user's"
        return Check(id="kernel", state="warning", message=less, fix="boot Linux 5.14 or later, or allow cgroups")
    return Check(id="kernel", state="ok", message=message)


def user_namespaces(
    program: Path, *, refused: RefusedError | None, root: Path = Path("/"), privileged: bool | None = None
) -> Check:
    """Whether user namespaces can be made, by what the kernel's settings say and by whether a sandbox started."""
    found = list(namespaces.restrictions(program, root=root, privileged=privileged))
    causes = " and ".join(f"{restriction.cause} ({restriction.setting})" for restriction in found)
    if not found:
        return Check(id="user_namespaces", state="ok", message="user namespaces may be made")
    if refused is None:
        return Check(id="user_namespaces", state="ok", message=f"this machine {causes}, and nsjail is allowed to")
    fix = "; ".join(restriction.fix for restriction in found)
    return Check(id="user_namespaces", state="failed", message=f"this machine {causes}", fix=fix)


def cgroups(
    enforcement: Mapping[str, Enforcement],
    *,
    mounted: Sequence[Mount] | None = None,
    root: bool | None = None,
    systemd: bool | None = None,
) -> Check:
    """Whether sandboxes get cgroups of their own, and what would give them some."""
    if enforcement.get("memory") == "hard":
        return Check(id="cgroups", state="ok", message="a cgroup for each sandbox: limits are hard")
    mounted = mounts() if mounted is None else mounted
    root = os.geteuid() == 0 if root is None else root
    systemd = shutil.which("systemd-run") is not None if systemd is None else systemd
    reason, fix = _missing_cgroups({mount.kind for mount in mounted}, root=root, systemd=systemd)
    message = f"{reason}: memory and processors are watched, not limited by the kernel"
    return Check(id="cgroups", state="warning", message=message, fix=fix)


def _missing_cgroups(kinds: set[str], *, root: bool, systemd: bool) -> tuple[str, str]:
    """Why there are none, and the fix."""
    if not kinds & {"cgroup", "cgroup2"}:
        return "no cgroups are mounted", "sudo mount -t cgroup2 none /sys/fs/cgroup"
    if root:
        return (
            "cgroups can't be written here, as in a container",
            "run the container that Stepbox is in with --cgroupns=private and a writable /sys/fs/cgroup (--privileged)",
        )
    if "cgroup2" in kinds and "cgroup" not in kinds and systemd:
        return "no cgroup is delegated to this process", _BY_SYSTEMD
    if "cgroup" in kinds and systemd:
        return (
            "cgroups of version 1 belong to root",
            f"{_AS_ROOT}; or boot with systemd.unified_cgroup_hierarchy=1, then {_BY_SYSTEMD}",
        )
    return "cgroups belong to root", _AS_ROOT
