"""What is run of an image, from what the Engine tells of it, and what is said where that can't be."""

from dataclasses import replace
from typing import Any

import pytest

from flows.errors import RefusedError
from steps.sandbox.docker.engine import DockerDiskFullError
from steps.sandbox.docker.guest import digest_of
from steps.sandbox.docker.pull import _Layers, _refusal
from steps.sandbox.docker.start_error import why_not_run, why_not_started
from steps.sandbox.docker.step_images import MAX_VOLUMES, StepImageError, command_of
from steps.sandbox.protocol import ContainerCommand


def command(config: dict[str, Any], **more: Any) -> ContainerCommand:
    given = {"script": None, "entrypoint": None, "arguments": None, **more}
    return command_of("team/image:1", {"Id": "sha256:00", "Config": config}, **given)


@pytest.mark.parametrize(
    ("config", "more", "runs"),
    [
        ({"Cmd": ["a"]}, {}, ("a",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {}, ("e", "a")),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"arguments": []}, ("e",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"arguments": ["b"]}, ("e", "b")),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": ["f"]}, ("f",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": [], "arguments": ["b"]}, ("b",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"script": "x"}, ("/bin/sh", "-e", "-c", "x")),
        ({"Entrypoint": None, "Cmd": None}, {"arguments": ["b"]}, ("b",)),
    ],
)
def test_command_is_that_of_docker_run(config: dict[str, Any], more: dict[str, Any], runs: tuple[str, ...]) -> None:
    assert command(config, **more).command == runs


@pytest.mark.parametrize("more", [{}, {"entrypoint": []}, {"arguments": []}])
def test_nothing_to_run_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(StepImageError, match="no command of its own"):
        command({"Entrypoint": None, "Cmd": []}, **more)


@pytest.mark.parametrize(
    ("declared", "given"),
    [
        (["/data", "/data/", "/data//x"], ("/data", "/data/x")),
        (["/work", "/tmp", "/dev/shm"], ()),
        (["/work/cache"], ("/work/cache",)),
        ([], ()),
    ],
)
def test_each_volume_gets_one_file_system(declared: list[str], given: tuple[str, ...]) -> None:
    assert command({"Cmd": ["a"], "Volumes": {path: {} for path in declared}}).volumes == given


@pytest.mark.parametrize("volume", ["/", "/proc", "/proc/x", "/sys", "/dev/x", "/data/../etc"])
def test_volume_that_no_container_can_have_is_refused(volume: str) -> None:
    with pytest.raises(StepImageError, match=f"VOLUME at {volume}"):
        command({"Cmd": ["a"], "Volumes": {volume: {}}})


def test_too_many_volumes_are_refused() -> None:
    volumes: dict[str, Any] = {f"/data/{number}": {} for number in range(MAX_VOLUMES + 1)}
    with pytest.raises(StepImageError, match="33 VOLUMEs, more than 32"):
        command({"Cmd": ["a"], "Volumes": volumes})


@pytest.mark.parametrize(
    ("told", "fix"),
    [
        ("manifest for a:1 not found: manifest unknown: manifest unknown", "check the name and the tag"),
        ("pull access denied for a, repository does not exist or may require 'docker login'", "docker login"),
        ("unauthorized: authentication required", "docker login"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "platform"),
        ("dial tcp: lookup registry-1.docker.io: no such host", "network and the proxy"),
        ("http: server gave HTTP response to HTTPS client", "insecure-registries"),
        ("x509: certificate signed by unknown authority", "trust"),
        ("toomanyrequests: You have reached your pull rate limit", "docker login"),
    ],
)
def test_failed_pull_says_what_to_do(told: str, fix: str) -> None:
    refusal = _refusal("a:1", told)
    assert (refusal.code, refusal.message) == ("image_pull_failed", f"the image a:1 can't be pulled: {told}")
    assert fix in str(refusal.fix)


def test_pull_onto_a_full_disk_is_told_apart() -> None:
    refusal = _refusal("a:1", "failed to register layer: write /x: no space left on device")
    assert isinstance(refusal, DockerDiskFullError)


def test_layers_say_how_far_they_are() -> None:
    layers = _Layers()
    assert str(layers) == "0 of 0 MB of the layers begun"
    for name, current in (("a", 1_000_000), ("b", 10_000_000)):
        detail = {"current": current, "total": 20_000_000}
        layers.take({"id": name, "status": "Downloading", "progressDetail": detail})
    assert str(layers) == "11 of 40 MB of the layers begun"
    layers.take({"id": "a", "status": "Pull complete", "progressDetail": {}})
    assert str(layers) == "30 of 40 MB of the layers begun"


SHELL = ContainerCommand(reference="a:1", image="", digest="", command=("/bin/sh", "-e", "-c", "x"), directory="/root")
PROGRAM = replace(SHELL, command=("tool", "-x"))


@pytest.mark.parametrize(
    ("told", "command", "code"),
    [
        (
            'starting container process caused: exec: "/bin/sh": stat /bin/sh: no such file or directory',
            SHELL,
            "no_shell",
        ),
        (
            'unable to start container process: exec: "tool": executable file not found in $PATH',
            PROGRAM,
            "command_not_found",
        ),
        ('unable to start container process: exec: "tool": permission denied', PROGRAM, "command_not_executable"),
        ('chdir to cwd ("/root") set in config.json failed: permission denied: unknown', SHELL, "directory_unusable"),
        ("mkdir /root: not a directory", SHELL, "directory_unusable"),
        ("cgroups: cgroup mountpoint does not exist: unknown", SHELL, None),
        ('exec: "tool": something else', PROGRAM, None),
    ],
)
def test_command_that_does_not_start_is_the_images_fault_or_the_engines(
    told: str, command: ContainerCommand, code: str | None
) -> None:
    error = why_not_started(RefusedError(f"the Docker Engine could not start a container: {told}", fix=""), command)
    assert (None if error is None else error.code) == code
    assert error is None or (error.fix and "a:1" in error.message)


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("standard_init_linux.go:228: exec user process caused: exec format error\n", "wrong_platform"),
        ("exec /bin/sh: exec format error", "wrong_platform"),
        ("sh: exec format error", None),
        ("", None),
    ],
)
def test_program_of_another_machine_is_known_by_what_the_runtime_prints(stderr: str, code: str | None) -> None:
    error = why_not_run(stderr, SHELL)
    assert (None if error is None else error.code) == code


@pytest.mark.parametrize(
    ("reference", "digests", "named"),
    [
        ("team/a:1", ["b/team/a@sha256:01", "team/a@sha256:02"], "team/a@sha256:02"),
        ("a", ["evil/ba@sha256:01", "docker.io/library/a@sha256:02"], "docker.io/library/a@sha256:02"),
        ("h:5000/a:1", ["h:5000/a@sha256:02"], "h:5000/a@sha256:02"),
        ("h:5000/a@sha256:01", ["h:5000/a@sha256:01", "h:5000/a@sha256:02"], "h:5000/a@sha256:01"),
        ("h:5000/a:1@sha256:01", ["h:5000/a@sha256:01", "h:5000/a@sha256:02"], "h:5000/a@sha256:01"),
        ("a:1", [], "a@sha256:00"),
    ],
)
def test_record_names_the_image_as_the_step_does(reference: str, digests: list[str], named: str) -> None:
    assert digest_of(reference, {"Id": "sha256:00", "RepoDigests": digests}) == named
