"""The installation itself."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.use_cases.acting import Acting
from flows.errors import StepboxError

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from engine.retention import Pruned
    from steps.sandbox.select import RunnerName


class MaintenanceUseCases(Acting):
    """The installation itself."""

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        from engine.retention import count, prune  # noqa: PLC0415 - only this use case needs it

        self._may("runs.remove")
        keep = self._parts.settings.keep
        if older_than is not None:
            keep = keep.only_runs(older_than)
        store = await self._parts.store()
        return await count(store, keep) if dry_run else await prune(store, keep)

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        from engine.doctor import diagnose  # noqa: PLC0415 - only this use case needs it

        self._may("installation.examine")
        diagnosis = await diagnose(self._parts.settings, self._parts.runner, notice, only=runner)
        if self._parts.settings.home.home.exists():
            # What is examined may be what entries are kept in.
            with suppress(StepboxError):
                store = await self._parts.store()
                found = [f"{one.name}: {one.verdict}" for one in diagnosis.runners]
                await store.audit.append(workspace=self._workspace, action="doctor", details={"found": found})
        return diagnosis
