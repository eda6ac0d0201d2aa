"""Steps of ``image``: a command in a container of any image."""

import re
from collections.abc import Iterator
from typing import Literal

from flows.contracts import Catalogue, Finding
from flows.model import StepConfig
from steps.sandbox.limits import Limits
from steps.sandboxed import SandboxConfig, check_sandboxed

_MAX_CODE = Limits().code
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


class ImageStep(SandboxConfig):
    """A container of its own. Without ``run`` and ``args`` it does what the image does by default."""

    image: str
    """The image's reference: ``name:tag`` or ``name@sha256:…``."""
    run: str | None = None
    """A script for the image's ``/bin/sh``; not together with ``args``."""
    args: list[str] | None = None
    """Arguments of the image's entrypoint."""
    entrypoint: list[str] | None = None
    """Replaces the image's own entrypoint."""
    pull: Literal["missing", "always", "never"] = "missing"
    """When to pull the image: where it isn't there, before each run, or never."""


def check_image(config: StepConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """What is wrong with a step of ``image``."""
    assert isinstance(config, ImageStep)
    yield from check_sandboxed(config.model_copy(update={"tools": []}), catalogue)
    if config.tools:
        message = "a step of `image` can't call tools: the command for it can't be put into any image"
        fix = "remove `tools:`, and call them from a step of code or of `tool` before or after"
        yield Finding(path=("tools",), code="tools_not_for_images", message=message, fix=fix, at="key")
    if config.run is not None and not config.run.strip():
        yield Finding(path=("run",), code="empty_code", message="there is no script", fix="write some, or remove `run`")
    elif config.run is not None and len(config.run.encode()) > _MAX_CODE:
        message = f"the script has {len(config.run.encode()):,} bytes, more than {_MAX_CODE:,}"
        yield Finding(
            path=("run",), code="code_too_large", message=message, fix="split the step, or put it into the image"
        )
    if len(config.image) > 400 or not _REFERENCE.fullmatch(config.image):  # noqa: PLR2004 - far beyond any real one
        message = f"`{config.image[:80]}` is not the reference of an image"
        yield Finding(path=("image",), code="invalid_image", message=message, fix="write it as `name:tag`")
    if config.run is not None and config.args is not None:
        message = "`run` and `args` exclude each other"
        yield Finding(path=("args",), code="conflicting_keys", message=message, fix="remove one of the two", at="key")
    if config.run is not None and config.entrypoint is not None:
        message = "`run` and `entrypoint` exclude each other"
        fix = "write the command under `args:`"
        yield Finding(path=("entrypoint",), code="conflicting_keys", message=message, fix=fix, at="key")
