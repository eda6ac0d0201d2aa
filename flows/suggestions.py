"""Did you mean: the closest known name to one that isn't known."""

from collections.abc import Iterable
from itertools import islice


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was probably meant to be, or None where nothing is close."""
    import difflib  # noqa: PLC0415 - needed only where something is wrong

    options = {option.lower(): option for option in islice(known, 2000)}
    matches = difflib.get_close_matches(name[:80].lower(), options, n=1, cutoff=0.6)
    return options[matches[0]] if matches else None


def listing(names: Iterable[str], *, limit: int = 12) -> str:
    """Names for a sentence: ``a, b, c``; only the first ``limit``, then an ellipsis."""
    shown = [f"`{name}`" for name in names]
    return ", ".join(shown[:limit]) + (", …" if len(shown) > limit else "")


def instead(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """The fix for an unknown name: the closest known one, or ``otherwise``."""
    match = closest(name, known)
    return f"did you mean `{match}`?" if match is not None else otherwise
