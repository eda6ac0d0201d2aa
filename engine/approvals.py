"""What runs wait for people to decide: found by what a person has at hand, and decided once."""

from collections.abc import Mapping, Sequence
from getpass import getuser

from engine.principal import Principal
from engine.questions import Approval, Decision
from engine.reach import ALL, Reach
from engine.records import Page
from engine.store import Store
from engine.store.errors import AmbiguousIdError, UnknownRecordError
from flows.errors import InvalidCallError
from flows.inputs import parse_input
from flows.schemas import mismatches
from flows.values import Json

ID_LENGTH = 26
_MEANT = 1000
"""Of more than so many that begin alike, the newest are looked at."""


class InvalidFormError(InvalidCallError):
    """Values that a question's form doesn't take: all that is wrong with them, one line each."""

    code = "invalid_form"


class Approvals:
    """The questions of one workspace, those of runs of the flows that may be reached."""

    def __init__(self, store: Store, workspace: str, reach: Reach = ALL) -> None:
        self._store = store
        self._workspace = workspace
        self._reach = reach

    async def list(
        self, *, run: str | None = None, undecided: bool = True, limit: int | None = None, cursor: str | None = None
    ) -> Page[Approval]:
        """The newest first, all of them without a limit; of a run those of its subflows too."""
        runs = None if run is None else await self._with_subflows(run)
        return await self._store.approvals.page(
            workspace=self._workspace,
            reach=self._reach,
            runs=runs,
            undecided=undecided,
            limit=limit,
            cursor=cursor,
        )

    async def find(self, target: str) -> Approval:
        """The question of an id, or of enough of its beginning; or the only undecided one of a run.

        Raises:
            UnknownRecordError: there is none.
            AmbiguousIdError: there are several; the message names some.
        """
        prefix = target.strip().upper()
        found: Sequence[Approval] = ()
        if prefix and len(prefix) <= ID_LENGTH:
            page = await self._store.approvals.page(
                workspace=self._workspace, reach=self._reach, prefix=prefix, limit=_MEANT
            )
            found = page.items
        if len(found) != 1:
            found = [one for one in found if one.decision is None] or await self._of_run(target)
        if len(found) == 1:
            return found[0]
        raise AmbiguousIdError("approval", target, [f"{one.id} ({one.label})" for one in found])

    async def decide(
        self, asked: Approval, decision: Decision, *, by: Principal, comment: str | None, values: Mapping[str, Json]
    ) -> Approval:
        """Decide a question that :meth:`find` has found.

        Raises:
            InvalidFormError: the values don't fit its form.
            DecidedError: it has been decided, or can't be any more.
            UnknownRecordError: it is gone by now.
        """
        given = check_form(asked, values) if decision == "approved" else None
        return await self._store.approvals.decide(
            asked.id, decision, by=decider(by), via=by.kind, comment=comment, values=given
        )

    async def resumable(self, approval: Approval) -> str | None:
        """The id of the run to resume for it: that of the approval, or the one that this is a part of.

        None for a question about a flow version.
        """
        if approval.run_id is None:
            return None
        return (await self._store.runs.root(approval.run_id)).id

    async def _of_run(self, target: str) -> Sequence[Approval]:
        try:
            found = (await self.list(run=target)).items
        except UnknownRecordError:
            found = ()
        if not found:
            fix = "see what waits with: stepbox approvals list"
            raise UnknownRecordError(f"no approval and no run that waits for one is {target!r}", fix=fix)
        return found

    async def _with_subflows(self, run: str) -> Sequence[str]:
        found = [(await self._store.runs.find(run, workspace=self._workspace, reach=self._reach)).id]
        for each in found:
            found += [child.id for child in await self._store.runs.children(each)]
        return found


def decider(principal: Principal) -> str:
    """Who decides, as the decision names it: a principal, or on this machine the user of the system."""
    return getuser() if principal.kind == "local" else principal.name


def form_values(asked: Approval, pairs: Mapping[str, str]) -> dict[str, Json]:
    """Values as they are written on a command line, by the types that the form declares.

    Raises:
        InvalidInputError: a text isn't a value of its type.
    """
    known = _properties(asked)
    return {name: parse_input(known.get(name, {}), text) for name, text in pairs.items()}


def check_form(asked: Approval, values: Mapping[str, Json]) -> Json:
    """The values of a yes: those given, and the defaults of the others; None where nothing is asked for.

    Raises:
        InvalidFormError: they don't fit.
    """
    if asked.form is None:
        if values:
            names = ", ".join(values)
            raise InvalidFormError(f"the approval asks for no values, so not for {names}", fix="leave --value out")
        return None
    known = _properties(asked)
    defaults = {name: schema["default"] for name, schema in known.items() if "default" in schema}
    complete = {**defaults, **values}
    wrong = [f"there is no value `{name}`" for name in values if known and name not in known]
    wrong += [f"{_place(each.path)}{each.message}; {each.fix}" for each in mismatches(asked.form, complete)]
    if wrong:
        raise InvalidFormError("\n".join(wrong), fix="give each value by its name and type, as `--value name=value`")
    return complete


def _properties(asked: Approval) -> dict[str, Mapping[str, Json]]:
    properties = asked.form.get("properties") if asked.form is not None else None
    if not isinstance(properties, Mapping):
        return {}
    return {name: schema for name, schema in properties.items() if isinstance(schema, Mapping)}


def _place(path: Sequence[str | int]) -> str:
    return f"value `{'.'.join(map(str, path))}`: " if path else ""
