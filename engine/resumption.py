"""What it takes to continue a run that another engine had begun."""

from collections.abc import Sequence

from engine.flow_sources import RecordedFlows
from engine.heartbeat import is_abandoned, looked_after
from engine.language import Language
from engine.plans import Plan
from engine.progress import Notice, Observer
from engine.records import Run, RunSummary
from engine.runs import NotResumableError, Runs
from engine.store import Store
from engine.store.errors import RunDrivenError
from flows.definition import Definition
from flows.values import RunStatus
from steps.code import PythonStep
from steps.sandbox import interpreter


async def plan_again(runs: Runs, store: Store, language: Language, run: Run, observer: Observer) -> Plan:
    """The plan of a run by the definitions that it had begun with; raises as :meth:`engine.runs.Runs.plan`."""
    definition = await recorded_definition(store, language, run)
    begun = run.status is not RunStatus.QUEUED and run.ended_at is None
    source = RecordedFlows(store, language, run)
    plan = await runs.plan(definition, run.inputs, source, workspace=run.workspace, begun=begun)
    await prepare_interpreter(plan, observer)
    return plan


async def prepare_interpreter(plan: Plan, observer: Observer) -> None:
    """Build the environment of Python steps where the flow has some and it isn't there yet."""
    definitions = (plan.definition, *plan.subflows.values())
    if any(isinstance(step, PythonStep) for one in definitions for step in one.steps.values()):
        await interpreter.ensure(lambda message: observer.notice(Notice(kind="setup", message=message)))


async def recorded_definition(store: Store, language: Language, run: Run) -> Definition:
    """The definition that a run is of, as it was when the run began."""
    version = await store.flows.get(run.flow_version_id)
    return language.load_stored(version.text, dict(version.files), path=f"{run.flow} v{version.number}")


async def abandoned_runs(store: Store, workspace: str | None) -> Sequence[RunSummary]:
    """The runs of a workspace, None: of all, that have begun and that no engine drives, the oldest first.

    Not those that are parts of others.
    """
    found: list[RunSummary] = []
    cursor: str | None = None
    while True:
        page = await store.runs.list(workspace=workspace, status=RunStatus.RUNNING, limit=200, cursor=cursor)
        found += [looked_after(run) for run in page.items if run.parent_id is None]
        cursor = page.next
        if cursor is None:
            return [run for run in reversed(found) if run.abandoned]


class PartOfRunError(NotResumableError):
    """A run that goes on, and ends, only as a part of the one that started it."""

    code = "part_of_run"


def refuse_part(run: Run, command: str) -> None:
    """Refuse a run of a subflow. ``command`` is the one that works on the run that it is a part of.

    Raises:
        PartOfRunError: it is one.
    """
    if run.parent_id is not None:
        raise PartOfRunError(
            f"run {run.id} is a part of run {run.parent_id}", fix=f"stepbox runs {command} {run.parent_id}"
        )


def refuse_to_resume(run: Run) -> None:
    """Refuse a run that can't be continued.

    Raises:
        NotResumableError: it has ended, or is a part of another one.
        RunDrivenError: an engine drives it.
    """
    if run.ended_at is not None:
        raise NotResumableError(
            f"run {run.id} has already {run.status.value}", fix=f"see it with: stepbox runs show {run.id}"
        )
    refuse_part(run, "resume")
    if run.status is RunStatus.RUNNING and not is_abandoned(run):
        raise RunDrivenError(run.id, run.owner)
