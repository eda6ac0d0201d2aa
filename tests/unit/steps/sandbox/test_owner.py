"""Whether a maker still lives, as far as can be seen."""

import os
import subprocess
import sys

import pytest

from steps.sandbox import owner

TELL = "from steps.sandbox import owner; print(owner.identity())"


def test_this_process_lives_and_is_another_each_time() -> None:
    assert not owner.is_dead(owner.identity())
    assert owner.identity() != owner.identity()


def test_process_that_has_ended_is_dead() -> None:
    told = subprocess.run([sys.executable, "-c", TELL], check=True, capture_output=True, text=True).stdout.strip()
    assert owner.is_dead(told)


def test_later_process_of_the_same_number_is_another() -> None:
    fields = owner.identity().split(".")
    assert fields[3] == str(os.getpid())
    assert owner.is_dead(".".join([*fields[:4], str(int(fields[4]) - 1), fields[5]]))


def test_owner_of_another_boot_of_this_machine_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_place", lambda: ("machine", "boot", "namespace"))
    earlier = "machine.earlier.namespace.1.1.1"
    assert owner.is_dead(earlier)
    monkeypatch.setattr(owner, "_place", lambda: ("unknown", "boot", "namespace"))
    assert not owner.is_dead("unknown.earlier.namespace.1.1.1")


@pytest.mark.parametrize("text", ["", "evil", "a.b.c.d.e.f", "other.boot.namespace.1.1.1", "1.2.3.4.5.6.7"])
def test_owner_that_can_not_be_seen_is_not_called_dead(text: str) -> None:
    assert not owner.is_dead(text)


def test_a_process_is_described_by_where_it_is() -> None:
    here = owner.identity()
    machine, boot, namespace, *rest = here.split(".")
    assert owner.describe(here) == f"process {os.getpid()} of this machine"
    assert owner.describe(".".join((machine, boot, "1", *rest))).endswith("in another container of this machine")
    assert owner.describe(".".join(("elsewhere", boot, namespace, *rest))).endswith("of another machine")
    assert owner.describe("who") == "an unknown process"
