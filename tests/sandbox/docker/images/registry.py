"""A registry of images on this machine, for as long as a block runs."""

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
from docker.errors import ImageNotFound

USER, PASSWORD = "reader", "s3cret"
# The password as htpasswd keeps it (bcrypt).
HTPASSWD = "reader:$2b$04$/JrNdyclV1uQHcysPJeqO.9cnlF.vJ1aZ.qYwzVlab6eyq0L03Ip6"
DEADLINE = 30


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry with one repository. ``address`` is host and port, as references begin; ``build`` makes images."""

    address: str
    private: bool
    client: docker.APIClient
    build: Callable[[str], str]
    repository: str = field(default_factory=lambda: f"team/image-{uuid4().hex[:8]}")

    @property
    def name(self) -> str:
        """Of the repository, as references have it."""
        return f"{self.address}/{self.repository}"

    @property
    def reference(self) -> str:
        return f"{self.name}:1"

    def push(self, lines: str = "ENV V=1") -> str:
        """Build an image, push it as the reference, and forget it; gives its digest."""
        assert self.client.tag(self.build(lines), self.name, "1")
        config = {"username": USER, "password": PASSWORD} if self.private else {"username": "", "password": ""}
        told: list[dict[str, Any]] = list(
            self.client.push(self.reference, stream=True, decode=True, auth_config=config)
        )
        assert not [item for item in told if "error" in item], told
        self.forget()
        return str(next(item["aux"]["Digest"] for item in told if "Digest" in item.get("aux", {})))

    def forget(self) -> None:
        """Remove the images of the repository from the Engine."""
        for image in self.client.images():
            for reference in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
                if reference.startswith(self.name):
                    with suppress(ImageNotFound):
                        self.client.remove_image(reference, force=True)

    def login(self, directory: Path) -> None:
        """Write what `docker login` would."""
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (directory / "config.json").write_text(json.dumps({"auths": {self.address: {"auth": secret}}}))


@contextmanager
def running_registry(
    directory: Path, client: docker.APIClient, build: Callable[[str], str], *, private: bool
) -> Iterator[Registry]:
    """Debian's docker-registry on a free port, with a password where it is private; what was pulled goes with it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    (directory / "htpasswd").write_text(f"{HTPASSWD}\n")
    settings: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    if private:
        settings["auth"] = {"htpasswd": {"realm": "stepbox", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(settings))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while not _answers(address):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        registry = Registry(address=address, private=private, client=client, build=build)
        try:
            yield registry
        finally:
            registry.forget()
    finally:
        process.terminate()
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
