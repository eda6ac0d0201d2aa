"""The installation itself."""

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

from engine.remote.calling import Calling
from engine.remote.client import PATIENT
from flows.errors import InvalidCallError

if TYPE_CHECKING:
    from engine.diagnosis import Diagnosis, Tried
    from engine.retention import Pruned
    from steps.sandbox.select import RunnerName


class OnlyThereError(InvalidCallError):
    """What is about the machine that it is done on."""

    code = "only_there"


class MaintenanceCalls(Calling):
    """The installation itself."""

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        from engine.retention import Pruned  # noqa: PLC0415 - the store, which other use cases don't need

        body = {"older_than": older_than, "dry_run": dry_run}
        answer = await self._client.call("POST", "/prune", body=body, patience=PATIENT)
        return Pruned(**{field.name: answer[field.name] for field in fields(Pruned)})

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        del notice, runner
        raise OnlyThereError(
            "a machine is examined on that machine", fix="run stepbox doctor there, or unset STEPBOX_URL"
        )
