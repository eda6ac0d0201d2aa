"""One nsjail process, which makes one jail after the other.

nsjail's own start (linking, reading its options, compiling the filter) costs more than the jail that it makes, so it is
kept. It makes the next jail when the last one has ended; it is stopped (SIGSTOP) while none is wanted. Jails have
nothing in common: each has namespaces, file systems, a supervisor and a line to the host of its own.
"""

import asyncio
import os
import signal
import socket
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from steps.sandbox import processes

LAUNCH = Path(__file__).with_name("launch.py")
LAST_WORDS = 64 * 1024
"""Bytes of what nsjail and the supervisor say on stderr, at most, that are kept."""
SILENCE = 0.1
"""Seconds without another word, after which the reason of a failure has been told."""
PATIENCE = 5.0
"""Seconds that nsjail has to say why it makes no jail."""
_CREDENTIALS = struct.Struct("iii")
_DESCRIPTOR = struct.Struct("i")


class JailerFailedError(Exception):
    """nsjail made no jail; the message is what it said."""


class Jailer:
    """An nsjail process and the desk at which its jails announce themselves."""

    def __init__(self, process: Process, desk: socket.socket) -> None:
        self._process = process
        self._handle = processes.Handle(process.pid)
        self._desk = desk
        self._words = bytearray()
        self._spoke = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, command: Sequence[str], cgroup_entries: Sequence[Path]) -> Self:
        """Start nsjail by its whole command, in the cgroups with these ``cgroup.procs``; it makes its first jail."""
        desk, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            desk.setblocking(False)  # noqa: FBT003 - the call has one argument
            desk.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            launch = (sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), *map(str, cgroup_entries), "--")
            try:
                process = await asyncio.create_subprocess_exec(
                    *launch,
                    *command,
                    stdin=inside.fileno(),
                    stdout=DEVNULL,
                    stderr=PIPE,
                    start_new_session=True,
                    env={},
                )
            except BaseException:
                desk.close()
                raise
        return cls(process, desk)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def next_jail(self) -> tuple[int, socket.socket]:
        """Let nsjail make a jail, and give its supervisor's pid on the host and the line to it.

        Cancelling this leaves a jailer that must be closed.

        Raises:
            JailerFailedError: it can't.
        """
        self._handle.send(signal.SIGCONT)
        arrived = asyncio.ensure_future(processes.readable(self._desk.fileno()))
        spoke = asyncio.ensure_future(self._spoke.wait())
        try:
            await asyncio.wait({arrived, spoke}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrived.cancel()
            spoke.cancel()
        if self._spoke.is_set():
            raise JailerFailedError(await self.last_words())
        data, ancillary, _flags, _address = self._desk.recvmsg(
            1, socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_CMSG_CLOEXEC
        )
        told = {kind: content for _level, kind, content in ancillary}
        given = [number for (number,) in _DESCRIPTOR.iter_unpack(told.get(socket.SCM_RIGHTS, b""))]
        pid, _uid, _gid = _CREDENTIALS.unpack(told.get(socket.SCM_CREDENTIALS, bytes(_CREDENTIALS.size)))
        try:
            # Whoever speaks may be a jail that is gone, whose pid another process has now, or no supervisor at all.
            if not data or len(given) != 1 or pid not in processes.children(self.pid):
                raise JailerFailedError(await self.last_words())
            line = socket.socket(fileno=given[0])
            given.clear()
        except OSError:
            raise JailerFailedError(await self.last_words()) from None
        else:
            return pid, line
        finally:
            for descriptor in given:
                os.close(descriptor)

    def pause(self) -> None:
        """Make no further jail until one is asked for; holds for one that ends only after this call."""
        self._handle.send(signal.SIGSTOP)

    def kill(self) -> None:
        """End nsjail, and with it the jail that it has now."""
        self._handle.kill()

    async def last_words(self) -> str:
        """What nsjail said before it failed; ends it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await self._process.wait()
        await self.close()
        return self._words.decode(errors="replace").strip()

    async def close(self) -> None:
        """End nsjail and wait until nothing of it is left."""
        self.kill()
        # A jail that is too young to end with nsjail ends when it finds no desk.
        self._desk.close()
        await self._process.wait()
        await self._listening
        self._handle.close()

    async def _listen(self) -> None:
        """Keep what nsjail says: it has nothing to say while all is well."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(LAST_WORDS):
            self._words += chunk[: LAST_WORDS - len(self._words)]
            self._spoke.set()
        self._spoke.set()


async def complaint(command: Sequence[str]) -> str:
    """Why nsjail makes no jail by this command: it says only what is fatal, unless it is asked again."""
    words = ["--quiet" if word == "--really_quiet" else word for word in command]
    mode = words.index("--mode") + 1 if "--mode" in words else 0
    process = await asyncio.create_subprocess_exec(
        *(*words[:mode], "o", *words[mode + 1 :]) if mode else words,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
        env={},
    )
    assert process.stderr is not None
    said = b""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                said = await process.stderr.read(LAST_WORDS)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
    return said.decode(errors="replace").strip()
