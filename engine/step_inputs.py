"""What the ``with`` of a step comes to: for records, and with the values of secrets for the call of a tool."""

from collections.abc import Mapping

from flows.expressions import resolve
from flows.values import Json


class Inputs:
    """The ``with`` of a step: as records show it, and as a call of a tool gets it.

    Raises:
        ExpressionError: an expression in it can't be evaluated.
    """

    def __init__(self, written: Mapping[str, Json], names: Mapping[str, Json], secrets: frozenset[str]) -> None:
        self._written = written
        self._names = names
        self.shown: Mapping[str, Json] = self.with_secrets({name: f"${{{{ secrets.{name} }}}}" for name in secrets})

    def with_secrets(self, values: Mapping[str, str]) -> dict[str, Json]:
        """With these values of the secrets that it names."""
        names = {**self._names, "secrets": dict(values)} if values else self._names
        return dict(resolve(self._written, names))
