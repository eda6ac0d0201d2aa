"""The composition root: nothing else constructs services.

Importing it costs little; what a use case needs is imported when it is opened.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

import steps
import triggers
from engine.language import Language
from engine.progress import Observer
from engine.service import Service
from flows.registry import registry
from steps.tools.catalogue import ToolCatalogue

if TYPE_CHECKING:
    from pathlib import Path

    from engine.installation import Installation
    from engine.local_serving import LocalServing
    from engine.settings import Settings
    from steps.sandbox.docker.image import BuiltImage


@cache
def language() -> Language:
    """The language with the built-in kinds and tools, and those of installed plug-ins."""
    return Language(registry=registry(steps.KINDS, triggers.KINDS), catalogue=ToolCatalogue())


@asynccontextmanager
async def open_service() -> AsyncIterator[Service]:
    """The service that ``STEPBOX_URL`` names, else this machine's installation, for who may use its home.

    Closed, with all it started, at the end.
    """
    from engine.settings import Settings  # noqa: PLC0415 - validate and help must not pay for it

    settings = Settings()
    async with _remote_service(settings) if settings.client.url else _local_service(settings) as service:
        yield service


@asynccontextmanager
async def _remote_service(settings: "Settings") -> AsyncIterator[Service]:
    from engine.remote.client import Client  # noqa: PLC0415 - httpx, which work on this machine doesn't need
    from engine.remote.service import RemoteService  # noqa: PLC0415 - the same

    token = settings.client.token
    client = Client(str(settings.client.url), None if token is None else token.get_secret_value())
    service = RemoteService(client, language())
    try:
        yield service
    finally:
        await service.close()


@asynccontextmanager
async def _local_service(settings: "Settings") -> AsyncIterator[Service]:
    from engine.bootstrap.parts import Parts  # noqa: PLC0415 - the same
    from engine.local_service import LocalService  # noqa: PLC0415 - the same
    from engine.principal import local_admin  # noqa: PLC0415 - the same
    from engine.records import DEFAULT_WORKSPACE  # noqa: PLC0415 - the same

    parts = Parts(settings=settings, language=language())
    workspace = settings.home.workspace
    try:
        if workspace != DEFAULT_WORKSPACE:
            await (await parts.store()).workspaces.require(workspace)
        yield LocalService(parts, local_admin(workspace))
    finally:
        await parts.close()


@asynccontextmanager
async def open_serving() -> "AsyncIterator[LocalServing]":
    """The service of this machine's installation, going on: it drives the runs that are queued.

    Closed, with all it started, at the end; what it still drives then is let go of.

    Raises:
        AlreadyServedError: another process drives the runs of this SQLite database.
        StepboxError: the database can't be opened, or no runner can be had.
    """
    from engine.bootstrap.parts import Parts  # noqa: PLC0415 - the same
    from engine.local_serving import LocalServing  # noqa: PLC0415 - the same
    from engine.serve_lock import ServeLock  # noqa: PLC0415 - the same
    from engine.settings import Settings  # noqa: PLC0415 - the same

    settings = Settings()
    parts = Parts(settings=settings, language=language(), lasting=True)
    settings.home.make()
    with ServeLock(settings.database_url):
        try:
            serving = await LocalServing.open(parts)
            try:
                yield serving
            finally:
                await serving.stop(at_once=True)
        finally:
            await parts.close()


async def keep_applied(serving: "LocalServing", directory: "Path") -> None:
    """Keep the flows of a directory applied in the settings' workspace; see :func:`engine.flow_watch.keep_applied`."""
    from engine import flow_watch  # noqa: PLC0415 - the same
    from engine.principal import local_admin  # noqa: PLC0415 - the same
    from engine.settings import Settings  # noqa: PLC0415 - the same

    await flow_watch.keep_applied(serving.service(local_admin(Settings().home.workspace)), directory)


async def initialise(observer: Observer, *, example: str | None) -> "Installation":
    """Make or complete the installation; see :func:`engine.installation.initialise`."""
    from engine import installation  # noqa: PLC0415 - the same
    from engine.settings import Settings  # noqa: PLC0415 - the same

    return await installation.initialise(Settings(), observer, example=example)


async def build_image(observer: Observer, *, base: str | None, network: str | None) -> "BuiltImage":
    """Build the image of Docker sandboxes; see :func:`steps.sandbox.docker.image.build`."""
    from engine.bootstrap.docker_engine import open_engine  # noqa: PLC0415 - the same
    from engine.progress import Notice  # noqa: PLC0415 - the same
    from steps.sandbox.docker import image  # noqa: PLC0415 - the same

    async with open_engine() as engine:
        return await image.build(
            engine,
            base=base or image.DEFAULT_BASE,
            network=network,
            progress=lambda message: observer.notice(Notice(kind="setup", message=message)),
        )


async def guest_images() -> "Sequence[BuiltImage]":
    """The images of Docker sandboxes that the Engine has, the newest first."""
    from engine.bootstrap.docker_engine import open_engine  # noqa: PLC0415 - the same
    from steps.sandbox.docker import image  # noqa: PLC0415 - the same

    async with open_engine() as engine:
        return await image.images(engine)
