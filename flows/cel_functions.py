"""The CEL library as expressions use it: imported without its command line, its functions bounded."""

import logging
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cel

MAX_MADE = 10_000_000
"""Characters or items that a function may give."""
LIST_MAKERS = frozenset({"split", "flatten", "lists.range"})
"""Functions that give lists longer than what they take."""
_MAX_RANGE = 100_000
_MAX_COMPARED = 5_000
"""Items that functions which compare all with all may be given."""


@lru_cache(maxsize=16)
def functions(limit: int) -> Mapping[str, Callable[..., Any]]:
    """The functions beyond the core of CEL; those that give lists give at most ``limit`` items."""
    context: cel.Context = cel_library().Context()
    from cel import stdlib  # noqa: PLC0415 - after `cel_library`, which see

    stdlib.add_stdlib_to_context(context)
    known = context.functions

    def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            if len(result) > limit:
                raise ValueError(f"it would give more than {limit:,} items")
            return result

        return call

    def comparing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if any(isinstance(each, list) and len(each) > _MAX_COMPARED for each in arguments):
                raise ValueError(f"it takes at most {_MAX_COMPARED:,} items")
            return function(*arguments)

        return call

    def numbers(length: int) -> list[int]:
        if length > (most := min(limit, _MAX_RANGE)):
            raise ValueError(f"it would give more than {most:,} items")
        return list(range(length))

    return {
        **known,
        **{name: bounded(known[name]) for name in LIST_MAKERS if name in known},
        **{name: comparing(known[name]) for name in known if name == "distinct" or name.startswith("sets.")},
        "lists.range": numbers,
        "replace": _replace,
        "string": _string,
        "join": _join,
    }


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    if len(text) + (text.count(old) if limit < 0 else min(limit, text.count(old))) * len(new) > MAX_MADE:
        raise ValueError(f"it would give more than {MAX_MADE:,} characters")
    return text.replace(old, new, limit)


def _string(value: object) -> str:
    """What the core leaves out: a boolean as text."""
    if not isinstance(value, bool):
        raise TypeError("it doesn't take a value of this type")
    return "true" if value else "false"


def _join(items: list[str], separator: str = "") -> str:
    if not all(isinstance(item, str) for item in items):
        raise TypeError("it joins texts only")
    if sum(map(len, items)) + len(items) * len(separator) > MAX_MADE:
        raise ValueError(f"it would give more than {MAX_MADE:,} characters")
    return separator.join(items)


def cel_library() -> ModuleType:
    """The package ``cel``, without its command line.

    Its ``__init__`` imports ``cel.cli`` and with it prompt_toolkit, pygments, rich and typer: half a second that
    validating must not pay. An empty module stands in for it while the package is imported.
    """
    if "cel" not in sys.modules:
        sys.modules["cel.cli"] = ModuleType("cel.cli")
        try:
            import cel  # noqa: F401, PLC0415 - only what isn't a plain selection needs it
        finally:
            del sys.modules["cel.cli"]
        logging.getLogger("cel").setLevel(logging.CRITICAL)  # it also logs each error that it raises
    return sys.modules["cel"]
