"""The flows that Stepbox ships, and copying one of them into a directory of the user's."""

from collections.abc import Iterator
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path

import flows
from flows.errors import InvalidCallError


class UnknownExampleError(InvalidCallError):
    """The library has no flow of that name."""

    code = "unknown_example"


class BlockedExampleError(InvalidCallError):
    """Something of the user's stands where a file or a folder of an example belongs."""

    code = "blocked_example"


@dataclass(frozen=True, kw_only=True)
class CopiedExample:
    """The files of an example, relative to the target: those as the library has them, and the user's that differ."""

    copied: tuple[Path, ...]
    kept: tuple[Path, ...]


def library() -> dict[str, Path]:
    """The folders of the flows that Stepbox ships, by name."""
    root = Path(next(iter(flows.__path__))) / "library"
    return {folder.name: folder for folder in sorted(root.iterdir()) if (folder / f"{folder.name}.yaml").is_file()}


def example_folder(name: str) -> Path:
    """The folder of one flow of the library.

    Raises:
        UnknownExampleError: there is none of that name.
    """
    shipped = library()
    if name not in shipped:
        raise UnknownExampleError(
            f"the library has no flow '{name}'", fix=f"choose one of {', '.join(shipped)}, or `list`"
        )
    return shipped[name]


def example_description(folder: Path) -> str:
    """The flow's description, from its text: the library's flows have it on one line."""
    text = (folder / f"{folder.name}.yaml").read_text(encoding="utf-8")
    return next(
        (line.removeprefix("description: ") for line in text.splitlines() if line.startswith("description: ")), ""
    )


def example_files(folder: Path) -> Iterator[Path]:
    """The files of an example, relative to its folder, the flow first. What Python compiled beside them is none."""
    flow = Path(f"{folder.name}.yaml")
    yield flow
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative != flow and "__pycache__" not in relative.parts:
            yield relative


def copy_example(folder: Path, target: Path) -> CopiedExample:
    """Copy an example into a directory, folders included; what is there stays as it is.

    Raises:
        BlockedExampleError: something there is a file where the example has a folder, or the other way round.
    """
    copied: list[Path] = []
    kept: list[Path] = []
    for relative in example_files(folder):
        content = (folder / relative).read_bytes()
        (copied if _is_there(target / relative, content) else kept).append(relative)
    return CopiedExample(copied=tuple(copied), kept=tuple(kept))


def _is_there(place: Path, content: bytes) -> bool:
    """Write a new file, or find one; whether it has the content now."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError):
        if place.is_file():
            return place.read_bytes() == content
        raise _blocked(place) from None
    return True


def _blocked(place: Path) -> BlockedExampleError:
    obstacle = next(each for each in (place, *place.parents) if lexists(each))
    is_, has = ("no file", "file") if obstacle == place else ("no folder", "folder")
    return BlockedExampleError(
        f"{obstacle} is {is_}, and the example has a {has} of that name",
        fix="move it, or run `stepbox init` in another directory",
    )
