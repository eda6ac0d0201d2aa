"""What was looked at besides the guarantees."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that steps need besides isolation.

    ``state`` is ``warning`` where something works less well than it could, ``failed`` where it doesn't work;
    ``fix`` is None where there is nothing to fix.
    """

    id: str
    state: State
    message: str
    fix: str | None = None
