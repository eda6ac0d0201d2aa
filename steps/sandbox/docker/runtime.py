"""Container runtimes: what starts a container's first process, and so what isolates it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from steps.sandbox.protocol import RuntimeUnavailableError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime of an Engine. ``name`` is None for the Engine's default."""

    name: str | None = None
    gvisor: bool = False
    """It is gVisor, whose containers have a kernel of their own."""


def find(info: Mapping[str, Any], name: str | None) -> Runtime:
    """The runtime of that name, from what an Engine tells about itself.

    Raises:
        RuntimeUnavailableError: the Engine doesn't have it.
    """
    known: Mapping[str, Any] = info.get("Runtimes") or {}
    effective = name or info.get("DefaultRuntime") or ""
    if name is not None and name not in known:
        raise RuntimeUnavailableError(
            f"the Docker Engine has no runtime {name!r}",
            fix=f"install it and name it in the Engine's daemon.json, or use one of {', '.join(sorted(known))}",
        )
    told = known.get(effective) or {}
    program = PurePosixPath(str(told.get("path") or "")).name
    return Runtime(name=name, gvisor=program.startswith("runsc") or "runsc" in str(told.get("runtimeType") or ""))
