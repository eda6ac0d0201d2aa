"""The guest image, and what its containers are created with."""

import json
from dataclasses import replace
from typing import Any

import pytest

from flows.errors import RefusedError
from steps.sandbox.docker import container, guest
from steps.sandbox.docker.pull import _parts
from steps.sandbox.docker.runtime import Runtime, find
from steps.sandbox.limits import MB, default_limits
from steps.sandbox.protocol import Profile

PROFILE = Profile(language="python", disk=64 * MB, memory=256 * MB)


def found(**config: Any) -> dict[str, Any]:
    labels = {guest.IDENTITY_LABEL: guest.identity(), guest.PYTHON_LABEL: "/usr/bin/python3"}
    return {"Id": "sha256:1", "RepoDigests": [], "Config": {"Labels": labels, **config}}


def options(profile: Profile = PROFILE, **other: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"image": "sha256:1", "python": "/usr/bin/python3", "unset": frozenset(), "labels": {}}
    return container.options(profile, **{**values, "runtime": Runtime(), **other})


def test_variables_of_the_image_are_taken_away() -> None:
    image = guest.usable("stepbox-guest:x", found(Env=["PATH=/evil", "LD_PRELOAD=/evil.so"]))
    environment = options(unset=image.variables)["Env"]
    assert "LD_PRELOAD" in environment
    assert [entry for entry in environment if entry.startswith("PATH=")] == ["PATH=/usr/local/bin:/usr/bin:/bin"]


@pytest.mark.parametrize(
    "image", [None, {"Id": "1", "Config": {"Labels": None}}, found(Volumes={"/data": {}}), found(Labels={"x": "y"})]
)
def test_image_that_is_not_fit_for_use_is_refused_with_a_fix(image: dict[str, Any] | None) -> None:
    with pytest.raises(RefusedError) as caught:
        guest.usable("stepbox-guest:x", image)
    assert "stepbox images build" in str(caught.value.fix)


def test_digest_is_the_registrys_where_there_is_one() -> None:
    pulled = {"Id": "sha256:1", "RepoDigests": ["other/guest@sha256:2", "host:5000/team/guest@sha256:3"]}
    assert guest.digest_of("host:5000/team/guest:1", pulled) == "host:5000/team/guest@sha256:3"
    assert guest.digest_of("stepbox-guest:x", {"Id": "sha256:1"}) == "stepbox-guest@sha256:1"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("alpine", ("alpine", "latest")),
        ("alpine:3", ("alpine", "3")),
        ("host:5000/team/image", ("host:5000/team/image", "latest")),
        ("host:5000/team/image:1", ("host:5000/team/image", "1")),
        ("alpine@sha256:00", ("alpine", "sha256:00")),
    ],
)
def test_reference_is_split_for_the_pull(reference: str, parts: tuple[str, str]) -> None:
    assert _parts(reference) == parts


def test_container_of_the_usual_limits_need_not_be_changed() -> None:
    limits = default_limits("python")
    assert container.started_with(PROFILE, limits, Runtime())
    assert not container.started_with(PROFILE, replace(limits, cpu=2), Runtime())
    assert not container.started_with(PROFILE, replace(limits, memory=512 * MB), Runtime())
    assert container.started_with(replace(PROFILE, memory=512 * MB), replace(limits, memory=512 * MB), Runtime())


def test_heap_follows_the_memory() -> None:
    profile = Profile(language="javascript", disk=64 * MB, memory=1000 * MB)
    assert options(profile)["Cmd"] == ["javascript", "", "heap=572"]


def test_seccomp_profile_denies_what_it_does_not_name() -> None:
    profile = json.loads(container._seccomp())
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    dangerous = "ptrace bpf mount unshare setns keyctl io_uring_setup userfaultfd perf_event_open kexec_load chroot"
    assert not allowed & set(dangerous.split())


def test_seccomp_profile_allows_numbers_and_never_all_but_some() -> None:
    """A filter compares 64 bits where the kernel takes 32: "not 26" lets 26 through with something above it."""
    rules = json.loads(container._seccomp())["syscalls"]
    compared = {argument["op"] for rule in rules for argument in rule.get("args", ())}
    assert compared == {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"}


def test_container_may_not_swap_where_its_swap_has_no_limit() -> None:
    assert "MemorySwappiness" not in options()["HostConfig"]
    assert options(swap_unlimited=True)["HostConfig"]["MemorySwappiness"] == 0


@pytest.mark.parametrize(
    ("told", "gvisor"),
    [
        ({"path": "/usr/bin/runsc"}, True),
        ({"path": "/opt/runsc-nightly"}, True),
        ({"runtimeType": "io.containerd.runsc.v1"}, True),
        ({"path": "/usr/bin/kata-runtime"}, False),
        ({"path": "runc"}, False),
    ],
)
def test_gvisor_is_known_whatever_its_runtime_is_called(told: dict[str, str], gvisor: bool) -> None:  # noqa: FBT001
    info = {"Runtimes": {"other": told}, "DefaultRuntime": "other"}
    assert find(info, "other") == Runtime(name="other", gvisor=gvisor)
    assert find(info, None) == Runtime(gvisor=gvisor)


def test_unknown_runtime_is_refused_with_those_there_are() -> None:
    with pytest.raises(RefusedError, match="no runtime 'runsc'") as caught:
        find({"Runtimes": {"runc": {}, "crun": {}}, "DefaultRuntime": "runc"}, "runsc")
    assert "crun, runc" in str(caught.value.fix)
