"""What hides the values of secrets in what steps print and give. :class:`steps.masking.Mask` implements it."""

from typing import Protocol

from flows.values import Json


class MaskedText(Protocol):
    """One text that comes in pieces."""

    def feed(self, text: str) -> str:
        """Take a piece; gives what can be shown by now."""

    def finish(self, text: str = "", *, cut: bool = False) -> str:
        """Take the last piece; where the text was ``cut`` off, the beginning of a value at its end is masked too."""


class Masking(Protocol):
    """Hides the values of some secrets."""

    def text(self, text: str) -> str:
        """A text without the values."""

    def json(self, value: Json) -> Json:
        """A JSON value without them, also in keys and in whole numbers."""

    def stream(self) -> MaskedText:
        """For a text that comes in pieces."""
