"""The docker SDK, which blocks, behind one edge: every call runs in a thread and fails with an error of ours.

The threads are its own: those of the event loop serve the store, which must not wait while containers start.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.tls import TLSConfig

from flows.errors import RefusedError
from steps.sandbox.docker.endpoint import DockerUnavailableError, Endpoint

T = TypeVar("T")

OLDEST_API = (1, 41)
"""Of Docker Engine 20.10."""
TIMEOUT = 60
"""Seconds for one call; starting a container on a loaded machine takes a few."""
THREADS = 8
GONE = 404
CONFLICT = 409


class ImageMissingError(RefusedError):
    """The Engine doesn't have an image any more."""

    code = "image_missing"


class DockerDiskFullError(RefusedError):
    """The Engine's own disk is full."""

    code = "docker_disk_full"


class Engine:
    """One Docker Engine. :meth:`open` must have returned before anything else is asked of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.info: Mapping[str, Any] = {}
        """What the Engine tells about itself and its machine."""
        self.version = ""
        """The version of its API that is spoken."""
        self._client: docker.APIClient | None = None
        self._threads = _threads()

    @property
    def is_open(self) -> bool:
        return self._client is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            DockerUnavailableError: it doesn't answer, is too old, or runs no Linux containers.
        """
        # The SDK's own first connection leaves its socket open where it fails, and says less about why.
        try:
            _reader, writer = await self.endpoint.dial()
        except OSError as error:
            raise self._refusal("be reached", error) from error
        writer.close()
        await self._run("be reached", self._connect)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)
        self._threads.shutdown(wait=False)
        self._threads = _threads()

    async def call(self, doing: str, work: Callable[[docker.APIClient], T]) -> T:
        """Call the SDK; ``doing`` completes the sentence "the Engine could not …".

        Raises:
            RefusedError: it failed, or the Engine doesn't answer.
        """
        assert self._client is not None
        client = self._client
        return await self._run(doing, lambda: work(client))

    async def answers(self) -> bool:
        """Whether it is still there."""
        try:
            await self.call("answer", lambda client: client.ping())
        except RefusedError:
            return False
        return True

    async def image(self, reference: str) -> Mapping[str, Any] | None:
        """What the Engine knows of an image; None where it doesn't have it."""

        def inspect(client: docker.APIClient) -> Mapping[str, Any] | None:
            try:
                found: Mapping[str, Any] = client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
            return found

        return await self.call(f"look for the image {reference}", inspect)

    async def create(self, name: str, options: Mapping[str, Any]) -> str:
        """Create a container; gives its id. Cancelling this removes it once it is there."""

        def make(client: docker.APIClient) -> str:
            return str(client.create_container_from_config(dict(options), name)["Id"])  # type: ignore[no-untyped-call]

        creating = asyncio.ensure_future(self.call("create a container", make))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await asyncio.wait({creating})
            if not creating.cancelled() and creating.exception() is None:
                await self.remove(creating.result())
            raise

    async def start(self, container: str) -> None:
        await self.call("start a container", lambda client: client.start(container))

    async def update(self, container: str, limits: Mapping[str, int]) -> None:
        """Change the limits of a running container, all at once (the SDK's own call leaves out ``PidsLimit``)."""

        def post(client: docker.APIClient) -> None:
            url = f"{client.base_url}/v{self.version}/containers/{container}/update"
            answer = client.post(url, json=dict(limits), timeout=TIMEOUT)
            if not answer.ok:
                raise APIError(answer.reason, answer, _message(answer))

        await self.call("set the limits of a container", post)

    async def signal(self, container: str, name: str) -> None:
        """Send a signal to the first process of a container; no complaint where it has ended."""

        def kill(client: docker.APIClient) -> None:
            try:
                client.kill(container, name)
            except APIError as error:
                if error.status_code not in (GONE, CONFLICT):
                    raise

        await self.call("signal a container", kill)

    async def first_process(self, container: str) -> int:
        """The pid of a container's first process on the Engine's machine; 0 where it has ended."""
        return int((await self.state(container))["Pid"])

    async def state(self, container: str) -> Mapping[str, Any]:
        """What a container does, or how it ended: ``Running``, ``Pid``, ``ExitCode``, ``OOMKilled`` and more."""
        found = await self.call("look at a container", lambda client: client.inspect_container(container))
        state: Mapping[str, Any] = found["State"]
        return state

    async def remove(self, container: str) -> None:
        """End a container and remove it, with its volumes; no complaint where it is gone or going."""

        def force(client: docker.APIClient) -> None:
            try:
                client.remove_container(container, force=True, v=True)
            except APIError as error:
                if error.status_code not in (GONE, CONFLICT):
                    raise

        await self.call("remove a container", force)

    async def labelled(self, label: str) -> list[Mapping[str, Any]]:
        """All containers with a label, running or not."""
        filters = {"label": [label]}
        found: list[Mapping[str, Any]] = await self.call(
            "list containers", lambda client: client.containers(all=True, filters=filters)
        )
        return found

    def unavailable(self, doing: str, error: Exception) -> RefusedError:
        """The refusal for an error of a connection that isn't the SDK's; ``doing`` as for :meth:`call`."""
        return self._refusal(doing, error)

    def _connect(self) -> None:
        certificates = self.endpoint.certificates
        tls: TLSConfig | bool = False
        if certificates is not None:
            client = certificates.client
            tls = TLSConfig(
                client_cert=(str(client[0]), str(client[1])) if client else None,
                ca_cert=str(certificates.authority) if certificates.authority else None,
                verify=certificates.verify,
            )
        made = _Client(self.endpoint.url, version="auto", timeout=TIMEOUT, tls=tls)
        try:
            self.version, self.info = str(made.api_version), made.info()
            self._check()
        except BaseException:
            made.close()
            raise
        self._client = made

    def _check(self) -> None:
        """Refuse an Engine that can't do what is needed."""
        if tuple(map(int, self.version.split("."))) < OLDEST_API:
            raise DockerUnavailableError(
                f"the Docker Engine at {self.endpoint.url}, {self.info.get('ServerVersion')}, is too old",
                fix="upgrade it to 20.10 or newer",
            )
        if self.info.get("OSType") != "linux":
            raise DockerUnavailableError(
                f"the Docker Engine at {self.endpoint.url} runs no Linux containers",
                fix="switch it to Linux containers",
            )

    async def _run(self, doing: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RefusedError:
            raise
        except (DockerException, requests.RequestException, OSError) as error:
            raise self._refusal(doing, error) from error

    def _refusal(self, doing: str, error: Exception) -> RefusedError:
        if isinstance(error, APIError):
            told = str(error.explanation or error)
            if "no space left on device" in told:
                return DockerDiskFullError(
                    f"the Docker Engine could not {doing}, because its disk is full: {told}",
                    fix="make room on the Engine's machine, for example by `docker system prune`",
                )
            if isinstance(error, ImageNotFound):
                return ImageMissingError(f"the Docker Engine could not {doing}: {told}", fix="build it or pull it")
            return RefusedError(f"the Docker Engine could not {doing}: {told}", fix="look at the Engine's own log")
        chain = list(_causes(error))
        if any(isinstance(cause, PermissionError) for cause in chain):
            return DockerUnavailableError(
                f"this user may not use the Docker Engine at {self.endpoint.url}",
                fix="add the user to the group `docker`, or set STEPBOX_RUNNER=nsjail",
            )
        return DockerUnavailableError(
            f"the Docker Engine at {self.endpoint.url} does not answer: {str(chain[-1]) or 'no word in time'}",
            fix="start it, say by DOCKER_HOST where it is, or set STEPBOX_RUNNER=nsjail",
        )


def _threads() -> ThreadPoolExecutor:
    """Starts none before it is needed."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="docker")


class _Client(docker.APIClient):
    """The SDK's client, with the certificates that it was given.

    Left to itself, requests prefers those that the environment names for the web, and its proxies.
    """

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        del url
        return {
            "proxies": proxies or {},
            "stream": bool(stream),
            "verify": self.verify if verify is None else verify,
            "cert": self.cert if cert is None else cert,
        }


def _causes(error: BaseException) -> list[BaseException]:
    """An error, and what led to it: requests and the SDK wrap the real one several times, some in their arguments."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in found:
            continue
        found.append(one)
        reason = getattr(one, "reason", None)
        inner = [part for part in (*one.args, reason) if isinstance(part, BaseException)]
        todo += [one.__cause__, one.__context__, *inner]
    return found


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text
