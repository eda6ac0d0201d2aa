"""What the kernel's settings say about user namespaces, and the command that changes it."""

import shlex
from pathlib import Path

import pytest

from flows.errors import RefusedError
from steps.sandbox import namespaces
from steps.sandbox.doctor import machine

NSJAIL = Path("/opt/an environment/bin/nsjail")
MAXIMUM = "user/max_user_namespaces"
DEBIAN = "kernel/unprivileged_userns_clone"
UBUNTU = "kernel/apparmor_restrict_unprivileged_userns"


def settings(root: Path, values: dict[str, str]) -> Path:
    for name, value in values.items():
        path = root / "proc" / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    ("values", "privileged", "found"),
    [
        ({}, False, []),
        ({MAXIMUM: "15000", DEBIAN: "1", UBUNTU: "0"}, False, []),
        ({MAXIMUM: "0"}, False, ["user.max_user_namespaces"]),
        ({MAXIMUM: "0"}, True, ["user.max_user_namespaces"]),
        ({DEBIAN: "0"}, False, ["kernel.unprivileged_userns_clone"]),
        ({UBUNTU: "1"}, False, ["kernel.apparmor_restrict_unprivileged_userns"]),
        ({DEBIAN: "0", UBUNTU: "1"}, True, []),
        (
            {MAXIMUM: "0", UBUNTU: "1"},
            False,
            ["user.max_user_namespaces", "kernel.apparmor_restrict_unprivileged_userns"],
        ),
    ],
)
def test_restrictions(tmp_path: Path, values: dict[str, str], *, privileged: bool, found: list[str]) -> None:
    root = settings(tmp_path, values)
    restrictions = list(namespaces.restrictions(NSJAIL, root=root, privileged=privileged))
    assert [restriction.setting for restriction in restrictions] == found
    for restriction in restrictions:
        assert restriction.fix


def test_ubuntu_gets_a_profile_for_nsjail_alone(tmp_path: Path) -> None:
    root = settings(tmp_path, {UBUNTU: "1"})
    (restriction,) = namespaces.restrictions(NSJAIL, root=root, privileged=False)
    words = shlex.split(restriction.fix)
    assert words[:2] == [
        "echo",
        'abi <abi/4.0>, profile stepbox-nsjail "/opt/an environment/bin/nsjail" flags=(unconfined) { userns, }',
    ]
    assert words[-3:] == ["apparmor_parser", "-r", "/etc/apparmor.d/stepbox-nsjail"]


def test_containers_are_told_by_their_mark(tmp_path: Path) -> None:
    assert not namespaces.in_container(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert namespaces.in_container(tmp_path)


def test_a_restriction_that_lets_nsjail_through_is_fine(tmp_path: Path) -> None:
    root = settings(tmp_path, {UBUNTU: "1"})
    check = machine.user_namespaces(NSJAIL, refused=None, root=root, privileged=False)
    assert (check.state, check.fix) == ("ok", None)
    assert "apparmor_restrict_unprivileged_userns" in check.message


def test_a_restriction_that_does_not_is_named_with_its_fix(tmp_path: Path) -> None:
    root = settings(tmp_path, {UBUNTU: "1"})
    check = machine.user_namespaces(NSJAIL, refused=RefusedError("no"), root=root, privileged=False)
    assert check.state == "failed"
    assert "apparmor_restrict_unprivileged_userns" in check.message
    assert "apparmor_parser" in (check.fix or "")


def test_no_restriction_is_fine(tmp_path: Path) -> None:
    assert machine.user_namespaces(NSJAIL, refused=RefusedError("no"), root=tmp_path, privileged=False).state == "ok"
