"""A Docker Engine of our own, beside the machine's: in a directory of its own, for as long as a block runs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
from docker.errors import DockerException

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("busybox", "docker-registry", "dockerd", "iptables", "mmdebstrap", "runsc")
PACKAGES = ("busybox-static", "docker-registry", "docker.io", "iptables", "mmdebstrap", "runsc")
BASE = "stepbox-test-base:bookworm"
BASE_PACKAGES = ("python3", "ca-certificates", "bash", "curl", "git", "grep", "jq")
CONTAINERD = """
version = 2
root = "{data}/containerd"
state = "{place}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{place}/containerd.sock"
[ttrpc]
address = "{place}/containerd.sock.ttrpc"
"""
START_DEADLINE = 60.0
STOP_DEADLINE = 30.0
# Debian's gVisor runs without its own kernel module, by tracing; it can't set up cgroups of its own beside Docker's.
RUNTIMES = {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--platform=ptrace", "--network=none"]}}


class EngineError(Exception):
    """The Engine can't be had; the message says why."""


class EngineProcess:
    """A dockerd, and the containerd below it, with everything that they keep in one directory."""

    def __init__(self, directory: Path, data: Path) -> None:
        self._directory = directory
        self._data = data
        self._containerd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = f"stepbox-test-{os.getpid()}-{time.monotonic_ns()}"
        (directory / "daemon.json").write_text(json.dumps({"runtimes": RUNTIMES}), encoding="utf-8")
        (directory / "containerd.toml").write_text(CONTAINERD.format(place=directory, data=data), encoding="utf-8")

    @property
    def host(self) -> str:
        return f"unix://{self._directory}/docker.sock"

    def start(self) -> None:
        """Start it and wait until it answers."""
        place = self._directory
        if self._containerd is None:
            # Not dockerd's child: as on any machine, containers outlive a dockerd that is killed.
            self._containerd = self._spawn("containerd", "--config", str(place / "containerd.toml"))
        self._process = self._spawn(
            *("dockerd", "--config-file", str(place / "daemon.json"), "--host", self.host),
            *("--data-root", str(self._data), "--exec-root", str(place / "exec"), "--pidfile", str(place / "pid")),
            *("--containerd", str(place / "containerd.sock"), "--cgroup-parent", f"/{self._parent}"),
            # It leaves the machine's network as it is.
            *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
        )
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise EngineError(f"dockerd doesn't start:\n{self._log()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End dockerd by a signal, and wait until it has ended; a killed one leaves its containers running."""
        process, self._process = self._process, None
        if process is not None:
            _end(process, number)

    def clean_up(self) -> None:
        """End everything, and remove what an Engine leaves behind: cgroups, and mounts below its directory."""
        self.stop()
        cgroups = [*Path("/sys/fs/cgroup").glob(f"*/{self._parent}"), Path("/sys/fs/cgroup") / self._parent]
        for folder in cgroups:
            for members in folder.glob("*/cgroup.procs"):
                for pid in members.read_text(encoding="ascii").split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        if self._containerd is not None:
            _end(self._containerd, signal.SIGTERM)
        for line in reversed(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()):
            place = line.split()[4]
            if Path(place).is_relative_to(self._directory):
                subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        for folder in cgroups:
            with suppress(OSError):
                folder.rmdir()

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(self._directory / "docker.sock"))
            # Where it begins to serve it still refuses; making a client asks for the version.
            docker.APIClient(self.host).close()
        except (OSError, DockerException):
            return False
        return True

    def _log(self) -> str:
        return (self._directory / "log").read_text(encoding="utf-8", errors="replace")[-3000:]


@contextmanager
def running_engine(data: Path | None = None) -> Iterator[EngineProcess]:
    """An Engine without any image; what it keeps is in ``data``, or in a directory that goes with it."""
    with tempfile.TemporaryDirectory(prefix="stepbox-docker-") as name:
        engine = EngineProcess(Path(name), data or Path(name) / "data")
        try:
            engine.start()
            yield engine
        finally:
            engine.clean_up()


def give_guest_image(host: str, stepbox: str) -> None:
    """Build the guest image on an Engine that can reach no registry, on a base made of Debian's packages.

    ``stepbox`` is the command. The base is kept in ``.cache`` for the next time.
    """
    archive = ROOT / ".cache" / "docker" / "base-bookworm.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        beside = archive.with_suffix(f".{os.getpid()}.tar")
        packages = f"--include={','.join(BASE_PACKAGES)}"
        try:
            _run("mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(beside))
            beside.replace(archive)
        finally:
            beside.unlink(missing_ok=True)
    client = docker.APIClient(host, timeout=300)
    try:
        client.import_image_from_file(str(archive), *BASE.split(":"))
    finally:
        client.close()
    environment = {**os.environ, "DOCKER_HOST": host}
    _run(stepbox, "images", "build", "--base", BASE, "--network", "none", environment=environment)


@contextmanager
def guest_image_meanwhile(host: str, stepbox: str) -> Iterator[Path]:
    """Give an Engine the guest image while the block runs.

    Gives a file that is there once that is over: empty, or with what went wrong.
    """
    with tempfile.TemporaryDirectory(prefix="stepbox-image-") as name:
        told = Path(name) / "told"
        # A process of its own, with all that it starts, so that a command that is short need not wait for it.
        building = subprocess.Popen([sys.executable, __file__, host, stepbox, str(told)], start_new_session=True)
        try:
            yield told
        finally:
            if building.poll() is None:
                os.killpg(building.pid, signal.SIGTERM)
            building.wait()


def missing_programs() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise EngineError(f"{command[0]} failed:\n{(done.stderr or done.stdout)[-3000:]}")


def _build(host: str, stepbox: str, told: str) -> None:
    words = ""
    try:
        give_guest_image(host, stepbox)
    except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for the image must know
        words = f"the guest image can't be had: {error}"
    beside = Path(f"{told}.new")
    beside.write_text(words, encoding="utf-8")
    beside.replace(told)


if __name__ == "__main__":
    _build(*sys.argv[1:])
