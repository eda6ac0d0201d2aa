"""Makes private directories mountable where the jail's user could not reach them.

As root, the jail's processes have an outside uid of their own, which can't traverse a private home (mode 0700) to mount
the interpreter from it. A process that does nothing but wait holds a mount namespace in which these directories are
bound to public places; nsjail is started in that namespace, and both vanish with the engine.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.errors import RefusedError

_SCRIPT = """
set -e
mount -t tmpfs -o mode=0755,size=1m none "$1"
place=$1; shift
number=0
for source in "$@"; do
  if [ -d "$source" ]; then mkdir "$place/$number"; else : > "$place/$number"; fi
  mount --bind "$source" "$place/$number"
  number=$((number + 1))
done
echo ready
exec cat > /dev/null
"""
_PLACES = ("/mnt", "/media", "/srv")


def is_public(path: Path) -> bool:
    """Whether every user may traverse to the path."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


class PublicMounts:
    """Where each of some paths can be mounted from: itself, or a place in a mount namespace of our own."""

    def __init__(self, places: Mapping[Path, Path], holder: asyncio.subprocess.Process | None) -> None:
        self._places = places
        self._holder = holder

    def source(self, path: Path) -> Path:
        return self._places.get(path, path)

    @property
    def command_prefix(self) -> list[str]:
        """What to put before a command so that it sees the places."""
        if self._holder is None:
            return []
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    async def close(self) -> None:
        if self._holder is None:
            return
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        await self._holder.wait()


async def publish(paths: Iterable[Path]) -> PublicMounts:
    """Make sure that each path can be mounted from somewhere.

    Raises:
        RefusedError: some path is private and the tools that could help are missing or may not.
    """
    private = [path for path in dict.fromkeys(paths) if not is_public(path)]
    if os.geteuid() != 0 or not private:
        return PublicMounts({}, None)
    place = next((Path(place) for place in _PLACES if _usable(Path(place), private)), None)
    missing = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
    if missing or place is None:
        raise RefusedError(
            f"{private[0]} lies in a private directory, and {', '.join(missing) or 'an empty /mnt'} is missing",
            fix="install the packages util-linux and mount, or install Stepbox and its Python in a public place",
        )
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", str(place)),
        *[str(path) for path in private],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    if await holder.stdout.readline() != b"ready\n":
        reason = (await holder.stderr.read()).decode(errors="replace").strip()
        await holder.wait()
        raise RefusedError(
            f"{private[0]} lies in a private directory and can't be mounted elsewhere: {reason}",
            fix="run as an ordinary user, or install Stepbox and its Python in a public place",
        )
    return PublicMounts({path: place / str(number) for number, path in enumerate(private)}, holder)


def _usable(place: Path, private: list[Path]) -> bool:
    return place.is_dir() and not any(path.is_relative_to(place) for path in private)
