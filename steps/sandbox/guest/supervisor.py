"""The first process of a sandbox: takes one job from the host, starts the user's process, and relays what it says.

It speaks frames with the host over its own stdin and stdout; with the setting ``line=desk`` it first gets them by
``desk.announce``. It runs single-threaded, so that it may fork, and
non-dumpable, so that the user's processes can neither trace nor read it. When the host goes away it exits, and the
kernel ends everything else in its process namespace.

Its arguments are the language, the modules to import before the job comes (joined by commas), and KEY=VALUE settings.
"""

# ruff: noqa: PTH102, PTH120, PTH208, SIM105, PLC0415 - pathlib, contextlib and imports that not every job needs would slow each start

from __future__ import annotations

import errno
import gc
import os
import select
import sys

from steps.sandbox.guest import framing, kernel

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


HOST_IN, HOST_OUT = 0, 1
WORK, ARTIFACTS = "/work", "/work/artifacts"
CHUNK = 64 * 1024
MAX_LEFT_CHUNKS = 64
"""Read from a pipe once the user's process has ended: more than a pipe holds, however much others go on writing."""
MAX_QUEUED_REPLIES = 256 * 1024 * 1024
OOM_SCORE_OF_USER = b"1000"
NOBODY = 0
"""No process has this pid."""
# Where deno may not make its folder, it tries for a sixth of a second.
DENO_FOLDER = "/dev/shm/deno"  # noqa: S108 - the sandbox's own
DENO_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/work", "DENO_DIR": DENO_FOLDER, "NO_COLOR": "1", "TZ": "UTC"}
# Else deno trusts its own list of authorities only, and not what the machine's administrator has added.
DENO_AUTHORITIES = {"DENO_TLS_CA_STORE": "mozilla,system"}
FILES = ("folder", "file", "content")
FROM_USER = {
    "python": {"call", "result", "error"},
    "javascript": {"call", "result", "error", "log", "leave"},
    "shell": set(),
}


def send(header: dict[str, Any], payload: bytes = b"") -> None:
    framing.write_all(HOST_OUT, framing.encode(header, payload))


class UserProcess:
    """The user's process as the supervisor holds it: descriptors are -1 where there is none.

    ``frames_in`` gives frames that the process sends, ``frames_out`` takes frames for it; ``streams`` maps the
    reading ends of its output to "stdout" and "stderr".
    """

    def __init__(self, pid: int, frames_in: int, frames_out: int, streams: dict[int, str]) -> None:
        self.pid = pid
        self.frames_in = frames_in
        self.frames_out = frames_out
        self.streams = streams


class Relay:
    """Passes bytes between the host and the user's process until that ends."""

    def __init__(self, user: UserProcess, language: str, listener: Any = None, proxy: Any = None) -> None:
        self._user = user
        self._kinds = FROM_USER[language]
        self._poll = select.poll()
        self._from_host = framing.Decoder()
        self._from_user = framing.Decoder()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._outgoing = bytearray()
        self._finished = False
        self._muted = False
        self._listener = listener
        self._proxy = proxy
        self._left: Any = None
        self._watch(HOST_IN, self._read_host)
        self._ended = kernel.watch_children()
        self._watch(self._ended, self._reap)
        # What poll has announced the code may have taken itself, out of its own pipes: nothing here may wait for it.
        for descriptor in (*user.streams, *([user.frames_in] if user.frames_in >= 0 else ())):
            os.set_blocking(descriptor, False)
        for descriptor in user.streams:
            self._watch(descriptor, lambda descriptor=descriptor: self._read_output(descriptor))  # type: ignore[misc]
        if user.frames_in >= 0:
            self._watch(user.frames_in, self._read_frames)
        if user.frames_out >= 0:
            os.set_blocking(user.frames_out, False)
        if listener is not None:
            self._watch(listener.fileno(), lambda: listener.accept(self._watch, self._unwatch))
        if proxy is not None:
            proxy.attach(self._watch, self._unwatch)
        self.status: int | None = None

    def run(self) -> int:
        """Gives the wait status of the user's process; where that is in another container, the host tells its end."""
        self._reap()
        while self.status is None:
            for descriptor, _event in self._poll.poll():
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
        for descriptor in list(self._user.streams):
            self._drain(descriptor)
        if self._user.frames_in >= 0:
            self._drain_frames()
        return self.status

    def _watch(self, descriptor: int, handler: Callable[[], None], events: int = select.POLLIN) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def _read_host(self) -> None:
        data = os.read(HOST_IN, CHUNK)
        if not data:
            os._exit(0)
        for header, payload in self._from_host.feed(data):
            if header["kind"] == "signal":
                self._signal_everyone(header["number"])
            elif header["kind"] == "mute":
                self._muted = True
            elif header["kind"] == "ended":
                self.status = header["status"]
            elif header["kind"] == "tool_result" and self._listener is not None:
                self._listener.reply(header, payload)
            elif header["kind"] == "tool_result":
                self._reply(framing.encode(header, payload))
            elif self._proxy is not None:
                self._proxy.hear(header, payload)

    @staticmethod
    def _signal_everyone(number: int) -> None:
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            pass

    def _reply(self, frame: bytes) -> None:
        if not self._outgoing and self._user.frames_out >= 0:
            self._watch(self._user.frames_out, self._write_user, select.POLLOUT)
        self._outgoing += frame
        if len(self._outgoing) > MAX_QUEUED_REPLIES:
            os._exit(1)

    def _write_user(self) -> None:
        try:
            written = os.write(self._user.frames_out, self._outgoing[:CHUNK])
        except BlockingIOError:
            return
        except OSError:
            written = len(self._outgoing)
        del self._outgoing[:written]
        if not self._outgoing:
            self._unwatch(self._user.frames_out)

    def _read_output(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._tell_output(descriptor, data)
        else:
            self._unwatch(descriptor)
            del self._user.streams[descriptor]

    def _drain(self, descriptor: int) -> None:
        """Take what is still in the pipe, without waiting for a left-over process that holds its other end."""
        for _chunk in range(MAX_LEFT_CHUNKS):
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                return
            if not data:
                return
            self._tell_output(descriptor, data)

    def _tell_output(self, descriptor: int, data: bytes) -> None:
        """Pass on output, unless the host has had enough of it."""
        if not self._muted:
            send({"kind": "log", "stream": self._user.streams[descriptor]}, data)

    def _read_frames(self) -> None:
        try:
            data = os.read(self._user.frames_in, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._unwatch(self._user.frames_in)
            return
        self._relay_frames(data)

    def _drain_frames(self) -> None:
        for _chunk in range(MAX_LEFT_CHUNKS):
            try:
                data = os.read(self._user.frames_in, CHUNK)
            except BlockingIOError:
                return
            if not data:
                return
            self._relay_frames(data)

    def _relay_frames(self, data: bytes) -> None:
        """Passes on the frames that user code may send, and ends it where it sends something else."""
        if self._finished:
            return
        try:
            for header, payload in self._from_user.feed(data):
                kind = header.get("kind")
                if not isinstance(kind, str) or kind not in self._kinds:
                    self._violated()
                    return
                if kind == "log" and self._muted:
                    continue
                if kind == "leave":
                    self._leave(header, payload)
                    continue
                send(header, payload)
                if kind in ("result", "error"):
                    self._finished = True
                    return
        except (framing.BrokenFrameError, ValueError, RecursionError):
            # A header that can be read and not be written, such as one with NaN or half a surrogate pair.
            self._violated()

    def _leave(self, header: dict[str, Any], payload: bytes) -> None:
        """Write what JavaScript leaves, and answer once it is written."""
        from steps.sandbox.guest import artifacts

        self._left = self._left or artifacts.Left(ARTIFACTS)
        answer = self._left.hear(header, payload)
        if answer is not None:
            self._reply(framing.encode(*answer))

    def _violated(self) -> None:
        self._finished = True
        send({"kind": "error"}, b'{"code": "channel_violation", "message": "the code wrote to its own channel"}')
        self._signal_everyone(kernel.SIGKILL)

    def _reap(self) -> None:
        """Take the status of each process that has ended: the user's, and orphans, which are children of this one."""
        try:
            os.read(self._ended, CHUNK)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._user.pid:
                self.status = status


def start_child(arguments: list[str], environment: Mapping[str, str], *, frames: bool) -> UserProcess:
    """Start a program as the user's process.

    With ``frames`` its stdin and stdout carry frames and only stderr is output.
    """
    error_read, error_write = os.pipe()
    out_read, out_write = os.pipe()
    if frames:
        in_read, in_write = os.pipe()
    else:
        in_read, in_write = os.open("/dev/null", os.O_RDONLY), -1
    pid = os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, in_read, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_DUP2, error_write, 2),
        ],
        setsigdef=kernel.SIGNALS_PYTHON_IGNORES,
        setsid=True,
    )
    for descriptor in (in_read, out_write, error_write):
        os.close(descriptor)
    give_up_memory_first(pid)
    if frames:
        return UserProcess(pid, out_read, in_write, {error_read: "stderr"})
    return UserProcess(pid, -1, -1, {out_read: "stdout", error_read: "stderr"})


def fork_python(job: dict[str, Any], parts: tuple[bytes, bytes, bytes], proxy: Any) -> UserProcess:
    """Run Python code in a fork of this warm interpreter, with nothing of what this process has open."""
    from steps.sandbox.guest import python_step

    calls_read, calls_write = os.pipe()
    replies_read, replies_write = os.pipe()
    out_read, out_write = os.pipe()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0, inheritable=True)
        os.dup2(out_write, 1, inheritable=True)
        os.dup2(error_write, 2, inheritable=True)
        for descriptor in (null, calls_read, replies_write, out_read, out_write, error_read, error_write):
            os.close(descriptor)
        if proxy is not None:
            proxy.close()
        os.setsid()
        gc.enable()
        kernel.set_dumpable(True)
        give_up_memory_first(os.getpid())
        python_step.run(job, parts, replies_read, calls_write)
    for descriptor in (calls_write, replies_read, out_write, error_write):
        os.close(descriptor)
    return UserProcess(pid, calls_read, replies_write, {out_read: "stdout", error_read: "stderr"})


def deno_command(settings: Mapping[str, str]) -> list[str]:
    """Deno with at most ``heap`` MiB of objects, and no permission but that to connect where it has a ``network``.

    That permission opens nothing: only loopback is there, and only ``fetch`` is left to use it.
    """
    folder = os.path.dirname(__file__)
    # An import of a data: URL would bring WebAssembly back, whose memory V8's heap limit doesn't count.
    engine = f"--max-old-space-size={settings['heap']},--max-wasm-functions=0,--wasm-max-mem-pages=0"
    return [
        *("/opt/deno", "run", "--quiet", "--no-prompt", "--no-remote", "--no-npm", "--no-lock", "--no-config"),
        *(("--allow-net",) if "network" in settings else ()),
        *("--no-code-cache", f"--import-map={folder}/imports.json", f"--v8-flags={engine}"),
        *(f"{folder}/step.js", *(("network",) if "network" in settings else ())),
    ]


def give_up_memory_first(pid: int) -> None:
    """Make the kernel end this process, not the supervisor, when memory runs out."""
    try:
        descriptor = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY)
        os.write(descriptor, OOM_SCORE_OF_USER)
        os.close(descriptor)
    except OSError:
        pass


def main() -> None:
    gc.disable()
    language = sys.argv[1]
    preload = [name for name in sys.argv[2].split(",") if name]
    settings = dict(argument.split("=", 1) for argument in sys.argv[3:])
    kernel.set_dumpable(False)
    kernel.leave_no_core()
    kernel.ignore_interrupt()
    if settings.get("line") == "desk":
        from steps.sandbox.guest import desk

        if not desk.announce():
            return
    warm = warm_up(language, preload, settings)
    # Frozen, so that collections of the code's process need not look at what was there before it.
    gc.freeze()
    send({"kind": "ready"})
    taken = take_job()
    if taken is None:
        return
    job, payload, proxy = taken
    rest = payload[job["code"] :]
    code, inputs, secrets = payload[: job["code"]], rest[: job["inputs"]], rest[job["inputs"] :]
    os.environ.clear()
    os.environ.update(job["environment"])
    os.mkdir(ARTIFACTS)
    listener = None
    if warm is not None:
        user = warm
        framing.write_all(user.frames_out, framing.encode(job, payload))
    elif language == "python":
        user = fork_python(job, (code, inputs, secrets), proxy)
    else:
        try:
            user, listener = (
                start_elsewhere(job, inputs, secrets)
                if job["elsewhere"]
                else start_shell(job, code.decode(), inputs, secrets)
            )
        except OSError:
            send(
                {"kind": "error"}, b'{"code": "disk_full", "message": "the inputs do not fit on the disk of the step"}'
            )
            return
    status = Relay(user, language, listener, proxy).run()
    if language == "shell":
        from steps.sandbox.guest import shell_step

        shell_step.tell_end(job, send, succeeded=status == 0)
    leaves = job["artifacts"] is not None and left_something()
    send({"kind": "exit", "status": status, "artifacts": leaves})
    if leaves:
        from steps.sandbox.guest import artifacts

        artifacts.end_everything()
        artifacts.Collector(job["artifacts"], HOST_OUT).collect(ARTIFACTS)
    # The host ends the sandbox; until then nothing here may end before it has read everything. What it still sends is
    # for nobody, but must be taken: a line closed with something unread takes away what the other end hasn't read yet.
    while os.read(HOST_IN, CHUNK):
        pass


def start_shell(job: dict[str, Any], code: str, inputs: bytes, secrets: bytes) -> tuple[UserProcess, Any]:
    """Start bash; gives what takes the calls of its command ``tool`` too."""
    from steps.sandbox.guest import shell_step

    listener = shell_step.Listener(job["tools"], send)
    environment, arguments = shell_step.prepare(job, code, inputs, secrets)
    return start_child(arguments, environment, frames=False), listener


def start_elsewhere(job: dict[str, Any], inputs: bytes, secrets: bytes) -> tuple[UserProcess, Any]:
    """Let the host start code in another container, which finds in the work directory what it needs."""
    from steps.sandbox.guest import shell_step

    shell_step.prepare_elsewhere(job, inputs, secrets)
    send({"kind": "prepared"})
    return UserProcess(NOBODY, -1, -1, {}), None


def take_job() -> tuple[dict[str, Any], bytes, Any] | None:
    """Wait for the job; gives it with its payload, and with the proxy where it has a network.

    The files that it is to find come before it.
    """
    frame = framing.read_frame(HOST_IN)
    if frame is not None and frame[0]["kind"] in FILES:
        from steps.sandbox.guest import artifacts

        frame = artifacts.take_files(HOST_IN, frame, WORK)
    if frame is None:
        return None
    send({"kind": "taken"})
    if frame[0]["kind"] != "network":
        return *frame, None
    from steps.sandbox.guest import proxy

    listening, authorities = proxy.Proxy(send), frame[1]
    frame = framing.read_frame(HOST_IN)
    if frame is None:
        return None
    job, payload = frame
    job["environment"].update(proxy.environment(authorities))
    job["network"] = {"proxy": proxy.URL, "authorities": authorities.decode(errors="replace")}
    return job, payload, listening


def left_something() -> bool:
    """Whether there is anything where artifacts are looked for."""
    try:
        return bool(os.listdir(ARTIFACTS))
    except FileNotFoundError:
        # A link to nowhere is worth a word.
        return os.path.lexists(ARTIFACTS)
    except OSError:
        return True


def warm_up(language: str, preload: list[str], settings: dict[str, str]) -> UserProcess | None:
    """Do what can be done before the job is known; gives the user's process where it can already wait for its job."""
    if language == "python":
        from steps.sandbox.guest import python_step

        python_step.warm_up(preload)
    elif language == "shell":
        from steps.sandbox.guest import shell_step  # noqa: F401 - used once the job is there
    else:
        environment = {**DENO_ENVIRONMENT, **(DENO_AUTHORITIES if "network" in settings else {})}
        user = start_child(deno_command(settings), environment, frames=True)
        if framing.read_frame(user.frames_in) is None:
            sys.exit("deno ended before it was ready")
        return user
    return None


def start() -> None:
    try:
        main()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise
