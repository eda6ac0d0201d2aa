"""The installation itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from engine.retention import Pruned
    from steps.sandbox.select import RunnerName


class MaintenanceUseCases(Protocol):
    """The installation itself."""

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        """Remove what has been kept for as long as the settings say; or runs that ended ``older_than`` seconds ago.

        With ``dry_run`` only the runs that would be removed are counted.
        """

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        """Prove what each runner guarantees where the service runs, by trying to break it; see :mod:`engine.doctor`.

        ``notice`` hears of each guarantee once it is tried; ``runner`` is the only one to examine.
        """
