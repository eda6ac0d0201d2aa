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
    from engine.installation import Installation
    from steps.sandbox.docker.image import BuiltImage


@cache
def language() -> Language:
    """The language with the built-in kinds and tools, and those of installed plug-ins."""
    return Language(registry=registry(steps.KINDS, triggers.KINDS), catalogue=ToolCatalogue())


@asynccontextmanager
async def open_service(*, lasting: bool = False) -> AsyncIterator[Service]:
    """The service on this machine's installation; closed, with all it started, at the end.

    A ``lasting`` one keeps sandboxes ready for runs that may come (``STEPBOX_READY_MIN``, ``STEPBOX_READY_MAX``).
    """
    from engine.bootstrap.parts import Parts  # noqa: PLC0415 - validate and help must not pay for the database
    from engine.local_service import LocalService  # noqa: PLC0415 - the same
    from engine.settings import Settings  # noqa: PLC0415 - the same

    service = LocalService(Parts(settings=Settings(), language=language(), lasting=lasting))
    try:
        yield service
    finally:
        await service.close()


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
