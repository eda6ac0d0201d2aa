"""Which files of a directory hold flows."""

import re
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".yaml", ".yml")

_FLOW = re.compile(rb"^(?:\xef\xbb\xbf)?[\"']?flow[\"']?[ \t]*:", re.MULTILINE)


def flow_files(directory: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """The YAML files that hold a flow, and those that don't, by path. What is hidden is left out.

    A flow has the key ``flow`` at its top level, so that other YAML, such as the data of a flow, is told from it even
    where the flow is not valid.
    """
    flows: list[Path] = []
    others: list[Path] = []
    for path in sorted(directory.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if hidden or path.suffix not in SUFFIXES or not path.is_file():
            continue
        (flows if _holds_flow(path) else others).append(path)
    return flows, others


def _holds_flow(path: Path) -> bool:
    try:
        return _FLOW.search(path.read_bytes()) is not None
    except OSError:
        # Who reads it next says what is wrong with it.
        return True
