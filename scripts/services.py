#!/usr/bin/env python3
"""Start the services that tests need, run a command beside them, and stop them.

    python scripts/services.py run [--only postgres|redis|docker|chromium]… [--early] -- pytest -q

Each service is this machine's own program, started for this command alone: its data in a temporary directory, on a free
loopback port, as an unprivileged user where we are root. The command finds them by ``STEPBOX_TEST_POSTGRES_URL``,
``STEPBOX_TEST_REDIS_URL`` and ``STEPBOX_TEST_DOCKER_HOST``; Chromium, which each test starts by itself, by
``STEPBOX_TEST_CHROMIUM``. With ``--early`` it runs while the guest image is being
built, and waits, where it needs that, for the file ``STEPBOX_TEST_DOCKER_IMAGE`` (empty, or why there is no image). On
Debian, as root, missing packages are installed; anywhere else they are named, and docker, which needs root, is left
out. The exit status is the command's, or 3 where a service can't be had.
"""

import argparse
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts import docker_engine

UNPRIVILEGED = "nobody"
START_DEADLINE = 60.0
STOP_DEADLINE = 15.0
PACKAGES = {
    "postgres": ["postgresql"],
    "redis": ["redis-server"],
    "docker": [*docker_engine.PACKAGES],
    "chromium": ["chromium"],
}


_PROGRAMS = {"redis": "redis-server", "chromium": "chromium"}


class UnavailableError(Exception):
    """A service that can't be started here; the message says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="run a command beside the services")
    run.add_argument("--only", action="append", choices=list(STARTERS), help="start only these")
    run.add_argument("--early", action="store_true", help="run the command while the guest image is being built")
    run.add_argument("command", nargs="+", help="the command and its arguments, after --")
    arguments = parser.parse_args()
    # Being stopped must stop the services as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        wanted = arguments.only or [name for name in STARTERS if name != "docker" or can_run_an_engine()]
        install([name for name in wanted if not is_installed(name)])
        with ExitStack() as stack:
            environment = dict(os.environ)
            for name in wanted:
                starter = docker_early if name == "docker" and arguments.early else STARTERS[name]
                environment |= stack.enter_context(starter())
            for variable in sorted(environment.keys() - os.environ.keys()):
                print(f"{variable}={environment[variable]}", file=sys.stderr)
            return subprocess.run(arguments.command, env=environment, check=False).returncode
    except UnavailableError as error:
        print(f"services: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def install(missing: list[str]) -> None:
    """Install the packages of missing services, or say which they are."""
    if not missing:
        return
    packages = [package for name in missing for package in PACKAGES[name]]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise UnavailableError(
            f"not installed: {', '.join(missing)}; on Debian: sudo apt-get install --no-install-recommends "
            f"{' '.join(packages)}"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Installing a package must not start the system's own instance of the service.
    with policy_against_starting():
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
        ):
            if subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode:
                raise UnavailableError(f"installing {' '.join(packages)} failed")


@contextmanager
def policy_against_starting() -> Iterator[None]:
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def is_installed(name: str) -> bool:
    return not docker_engine.missing_programs() if name == "docker" else find_program(name) is not None


def find_program(name: str) -> Path | None:
    """The program of a service. Debian keeps PostgreSQL's beside its version, not on the path."""
    if name in _PROGRAMS:
        found = shutil.which(_PROGRAMS[name])
        return Path(found) if found else None
    versions = Path("/usr/lib/postgresql")
    candidates = sorted(versions.glob("*/bin/postgres"), key=lambda path: int(path.parts[4]), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve())
    return next((path for path in candidates if (path.parent / "initdb").exists()), None)


@contextmanager
def postgres() -> Iterator[Mapping[str, str]]:
    """A PostgreSQL server with one empty database."""
    program = find_program("postgres")
    if program is None:
        raise UnavailableError("postgres can't be found, though its package is installed")
    with private_directory("stepbox-postgres-") as directory:
        data = directory / "data"
        initialise = [
            str(program.parent / "initdb"),
            f"--pgdata={data}",
            "--username=stepbox",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        identity = Identity.unprivileged()
        done = subprocess.run(
            initialise,
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            user=identity.user,
            group=identity.group,
            extra_groups=identity.extra_groups,
        )
        if done.returncode:
            raise UnavailableError(f"initdb failed: {done.stderr.strip()}")
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(directory),
            "fsync": "off",
            "max_connections": "200",
        }
        command = [str(program), "-D", str(data)]
        for option, value in options.items():
            command += ["-c", f"{option}={value}"]
        ready = [str(program.parent / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-d", "postgres"]
        with server("postgres", command, directory, lambda: subprocess.run(ready, check=False).returncode == 0):
            yield {"STEPBOX_TEST_POSTGRES_URL": f"postgresql://stepbox@127.0.0.1:{port}/postgres"}


@contextmanager
def redis() -> Iterator[Mapping[str, str]]:
    """A Redis server that keeps nothing."""
    program = find_program("redis")
    if program is None:
        raise UnavailableError("redis-server can't be found, though its package is installed")
    with private_directory("stepbox-redis-") as directory:
        port = free_port()
        options = {"bind": "127.0.0.1", "port": str(port), "dir": str(directory), "save": "", "appendonly": "no"}
        command = [str(program), *(word for key, value in options.items() for word in (f"--{key}", value))]
        with server("redis", command, directory, lambda: answers_ping(port)):
            yield {"STEPBOX_TEST_REDIS_URL": f"redis://127.0.0.1:{port}/0"}


def can_run_an_engine() -> bool:
    """Whether a Docker Engine of our own can run here; in CI it must."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return True
    if os.environ.get("CI") == "true":
        raise UnavailableError("a Docker Engine of our own needs root, and Debian's packages")
    print("services: no Docker Engine, whose tests are skipped: it needs root on Debian or Ubuntu", file=sys.stderr)
    return False


@contextmanager
def docker_early() -> Iterator[Mapping[str, str]]:
    """A Docker Engine, apart from the machine's own, that gets the guest image."""
    try:
        with docker_engine.running_engine() as engine:
            stepbox = str(Path(sys.executable).with_name("stepbox"))
            with docker_engine.guest_image_meanwhile(engine.host, stepbox) as told:
                yield {"STEPBOX_TEST_DOCKER_HOST": engine.host, "STEPBOX_TEST_DOCKER_IMAGE": str(told)}
    except docker_engine.EngineError as error:
        raise UnavailableError(str(error)) from None


@contextmanager
def docker() -> Iterator[Mapping[str, str]]:
    """The same, once it has the image."""
    with docker_early() as variables:
        told = Path(variables["STEPBOX_TEST_DOCKER_IMAGE"])
        while not told.exists():
            time.sleep(0.1)
        if wrong := told.read_text(encoding="utf-8"):
            raise UnavailableError(wrong)
        yield variables


@contextmanager
def chromium() -> Iterator[Mapping[str, str]]:
    """The browser's program; nothing runs until a test starts it."""
    program = find_program("chromium")
    if program is None:
        raise UnavailableError("chromium can't be found, though its package is installed")
    yield {"STEPBOX_TEST_CHROMIUM": str(program)}


STARTERS: dict[str, Callable[[], contextlib.AbstractContextManager[Mapping[str, str]]]] = {
    "postgres": postgres,
    "redis": redis,
    "docker": docker,
    "chromium": chromium,
}


@contextmanager
def server(name: str, command: list[str], directory: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a server until the block ends; it is ready when the block begins."""
    log = directory / "log"
    identity = Identity.unprivileged()
    with log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches the command first and the server last.
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=identity.user,
            group=identity.group,
            extra_groups=identity.extra_groups,
        )
    try:
        deadline = time.monotonic() + START_DEADLINE
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(f"{name} doesn't start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        # SIGINT is PostgreSQL's fast shutdown; Redis takes it as SIGTERM.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def private_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory that belongs to the user who runs the services."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        identity = Identity.unprivileged()
        if identity.user is not None and identity.group is not None:
            os.chown(name, identity.user, identity.group)
        yield Path(name)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who runs the services: None for the user we are; another one where we are root, whom PostgreSQL refuses."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None

    @classmethod
    def unprivileged(cls) -> "Identity":
        if os.geteuid() != 0:
            return cls()
        account = pwd.getpwnam(UNPRIVILEGED)
        return cls(user=account.pw_uid, group=account.pw_gid, extra_groups=())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
