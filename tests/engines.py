"""Docker Engines of a test's own, which it may stop, kill and fill."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import docker

from scripts.docker_engine import EngineProcess, running_engine
from steps.sandbox.docker import guest


@contextmanager
def engine_with_guest(client: docker.APIClient) -> Iterator[EngineProcess]:
    """An Engine with as much of another's guest image as plain Python and shells need."""
    with running_engine() as made, tempfile.TemporaryFile() as file:
        labels = client.inspect_image(guest.tag())["Config"]["Labels"]  # type: ignore[no-untyped-call]
        write_without_packages(client, file)
        file.seek(0)
        own = docker.APIClient(made.host, timeout=120)
        own.import_image_from_data(
            file,
            repository=guest.NAME,
            tag=guest.identity(),
            changes=[f"LABEL {name}={value}" for name, value in labels.items()],
        )
        own.close()
        yield made


def write_without_packages(client: docker.APIClient, file: IO[bytes]) -> None:
    container = client.create_container(guest.tag(), "true")
    unwanted = ("opt/packages", "opt/deno", "usr/lib/git-core", "usr/share", "usr/lib/x86_64-linux-gnu/perl", "var")
    parts = client.export(container)
    with (
        tarfile.open(fileobj=Pieces(parts), mode="r|") as whole,  # type: ignore[call-overload]
        tarfile.open(fileobj=file, mode="w") as rest,
    ):
        for entry in whole:
            if not entry.name.startswith(unwanted):
                rest.addfile(entry, whole.extractfile(entry) if entry.isreg() else None)
    client.remove_container(container)


class Pieces:
    """An iterator of bytes, as a file that can only be read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def read(self, count: int) -> bytes:
        while len(self._rest) < count and (part := next(self._parts, b"")):
            self._rest += part
        data, self._rest = self._rest[:count], self._rest[count:]
        return data
