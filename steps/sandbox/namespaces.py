"""Whether this machine lets a process without privileges make user namespaces, and the command that allows it.

The jail needs them. Kernels and distributions restrict them in several ways, which fail at different calls and with
different words; what restricts is in /proc/sys.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CONTAINER_OPTIONS = (
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
)
_APPARMOR = "/etc/apparmor.d/stepbox-nsjail"


@dataclass(frozen=True, kw_only=True)
class Restriction:
    """One setting that is in the way: ``cause`` completes "this machine …", ``fix`` is what to run."""

    setting: str
    cause: str
    fix: str


def restrictions(program: Path, *, root: Path = Path("/"), privileged: bool | None = None) -> Iterator[Restriction]:
    """What keeps ``program`` from making user namespaces, as far as the settings below ``root`` tell.

    ``privileged`` is whether it runs as root, whom only some settings concern; left out: as this process does.
    """
    if privileged is None:
        privileged = os.geteuid() == 0
    settings = root / "proc" / "sys"
    if _read(settings / "user" / "max_user_namespaces") == "0":
        yield Restriction(
            setting="user.max_user_namespaces",
            cause="allows no user namespaces",
            fix=_sysctl("user.max_user_namespaces", "15000"),
        )
    if privileged:
        return
    if _read(settings / "kernel" / "unprivileged_userns_clone") == "0":
        yield Restriction(
            setting="kernel.unprivileged_userns_clone",
            cause="allows user namespaces to root only",
            fix=_sysctl("kernel.unprivileged_userns_clone", "1"),
        )
    if _read(settings / "kernel" / "apparmor_restrict_unprivileged_userns") == "1":
        yield Restriction(
            setting="kernel.apparmor_restrict_unprivileged_userns",
            cause="restricts user namespaces by AppArmor to programs with a profile that allows them",
            fix=_profile(program),
        )


def in_container(root: Path = Path("/")) -> bool:
    """Whether this process is in a container, as Docker and Podman mark it."""
    return any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))


def advice(program: Path) -> str:
    """What to do where a namespace could not be made."""
    if found := [restriction.fix for restriction in restrictions(program)]:
        return "; ".join(found)
    if in_container():
        return f"run the container that Stepbox is in with {_CONTAINER_OPTIONS}"
    return f"allow user namespaces: {_sysctl('user.max_user_namespaces', '15000')}"


def _sysctl(setting: str, value: str) -> str:
    return f"echo {setting}={value} | sudo tee /etc/sysctl.d/60-stepbox.conf && sudo sysctl --system"


def _profile(program: Path) -> str:
    """The narrow fix: a profile for this program alone, instead of the setting for all."""
    text = f'abi <abi/4.0>, profile stepbox-nsjail \\"{program}\\" flags=(unconfined) {{ userns, }}'
    return f'echo "{text}" | sudo tee {_APPARMOR} && sudo apparmor_parser -r {_APPARMOR}'


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
