"""Keys of secrets that are kept elsewhere than in a file of the home: in a variable, or by what a command prints."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from engine.secret_key import MAX_KEYS, SecretKey, SecretKeyError, keys_of

TIMEOUT: Final = 30.0
"""Seconds that a command may take."""
_MAKE: Final = "make one: openssl rand -base64 32"


class _Elsewhere:
    """Keys that are made and kept elsewhere (:class:`engine.secret_key.KeySource`)."""

    place: str

    async def make(self) -> SecretKey:
        raise SecretKeyError(f"{self.place} gives no key", fix=_MAKE)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        yield

    async def add(self, known: tuple[SecretKey, ...]) -> SecretKey:  # noqa: ARG002 - the contract of a source
        raise SecretKeyError(
            f"the first key of {self.place} is the one that the secrets are encrypted by",
            fix=f"{_MAKE}; then let {self.place} give both, the new one first, and do this again",
        )

    async def leave(self, key: SecretKey, known: tuple[SecretKey, ...]) -> tuple[Path, ...]:  # noqa: ARG002
        return ()


class KeyVariable(_Elsewhere):
    """Keys in ``STEPBOX_SECRET_KEY``, separated by white space."""

    place = "STEPBOX_SECRET_KEY"

    def __init__(self, text: str) -> None:
        self._text = text

    async def read(self) -> tuple[SecretKey, ...]:
        return keys_of(self._text.encode(), self.place, fix=_MAKE)


class KeyCommand(_Elsewhere):
    """Keys that a command prints, started without a shell: ``STEPBOX_SECRET_KEY_COMMAND``."""

    place = "STEPBOX_SECRET_KEY_COMMAND"

    def __init__(self, command: str, *, timeout: float = TIMEOUT) -> None:
        self._command = command
        self._timeout = timeout

    async def read(self) -> tuple[SecretKey, ...]:
        try:
            arguments = shlex.split(self._command)
        except ValueError as error:
            raise SecretKeyError(f"{self.place} can't be read: {error}", fix="close its quotes") from None
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except (OSError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is empty"
            raise SecretKeyError(
                f"the command of {self.place} can't be started: {reason}", fix="write the whole path of the program"
            ) from None
        try:
            async with asyncio.timeout(self._timeout):
                printed, said = await process.communicate()
        except TimeoutError:
            raise SecretKeyError(
                f"the command of {self.place} took longer than {self._timeout:g} s", fix="run it by hand"
            ) from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().rpartition("\n")[2][:300]
            raise SecretKeyError(
                f"the command of {self.place} ended with status {process.returncode}: {last}", fix="run it by hand"
            )
        return keys_of(printed[: MAX_KEYS + 1], "what the command of STEPBOX_SECRET_KEY_COMMAND prints", fix=_MAKE)
