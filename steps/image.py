"""Steps of ``image``: a command in a container of any image."""

from typing import Literal

from steps.code import SandboxConfig


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
    runtime: str | None = None
    """The container runtime by name, such as ``runsc``; left out: the one that the installation is set to."""
    pull: Literal["missing", "always", "never"] = "missing"
