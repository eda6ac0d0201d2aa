"""Flows: read, checked, put into service and taken out of it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine import deciders, flow_ceilings, flow_changes, full_network, snippets, starts
from engine.plans import UnknownFlowError
from engine.questions import requesters_of
from engine.records import FlowDetail, FlowSummary, FlowVersion, Page
from engine.run_secrets import secrets_named
from engine.service import AppliedFlow, FlowText, Precondition, PreconditionFailedError
from engine.starts import unknown_flow
from engine.store import Store
from engine.use_cases.acting import Acting
from engine.use_cases.cursors import no_cursor, number
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.names import NAME
from steps.approval import ApprovalStep

if TYPE_CHECKING:
    from engine.upcoming import Upcoming


class FlowUseCases(Acting):
    """Flows: read, checked, put into service and taken out of it."""

    def load(self, flow: FlowText) -> Definition:
        self._may("flows.read")
        return flow_changes.load(flow, self._language)

    async def definition(self, flow: str) -> Definition:
        self._may("flows.read", flow=flow)
        return await starts.known(await self._stored(), flow)

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        self._may("flows.change")
        definitions = await flow_changes.gather(flows, self._language)
        for name in definitions:
            self._may("flows.change", flow=name)
        paths = flow_changes.paths(flows, definitions)
        flow_ceilings.refuse_above(definitions, paths, await self._parts.policies.ceilings(self._workspace))
        store = await self._parts.store()

        async def is_known(name: str) -> bool:
            return await store.flows.current(name, workspace=self._workspace) is not None

        changes: list[AppliedFlow] = []
        async with store.transaction():
            await store.flows.lock(self._workspace)
            await flow_changes.refuse_unknown(definitions, is_known)
            await self._refuse_unset(definitions.values())
            for name, one in definitions.items():
                before = await store.flows.detail(name, workspace=self._workspace)
                if precondition is not None:
                    _require(precondition, name, before)
                number: int | None = None
                await self._refuse_unknown_approvers(one)
                approval: str | None = None
                if not dry_run:
                    version = await store.flows.put_version(
                        self._workspace, name, one.text, one.files, one.digest, apply=True, by=self._principal.name
                    )
                    number = version.number
                    approval = await self._ask_for_network(store, version, one)
                change = flow_changes.change(one, before, version=number, approval=approval)
                changes.append(change)
                if not dry_run and change.change != "unchanged":
                    details = {"version": number, "previous": change.previous, "digest": change.digest}
                    await self._record(store, "flow.apply", "flow", name, details)
        if not dry_run:
            await self._tell_changed()
        return changes

    async def _refuse_unknown_approvers(self, definition: Definition) -> None:
        asking = [step for step in definition.steps.values() if isinstance(step, ApprovalStep)]
        if any(step.approval.approvers for step in asking):
            store = await self._parts.store()
            principals = await store.principals.roles(self._workspace, flow=definition.flow.flow)
            for step in asking:
                deciders.refuse_unknown(definition.flow.flow, step.id, step.approval.approvers, principals)

    async def _ask_for_network(self, store: Store, version: FlowVersion, definition: Definition) -> str | None:
        """The id of the question about a version that nobody has decided yet; None where there is nothing to ask."""
        if not full_network.needs_approval(definition):
            return None
        by = requesters_of(self._principal.name)
        asked = await full_network.ask(store, version, definition, requesters=by)
        return asked.id if asked.decision is None else None

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        self._may("flows.read")
        if cursor is not None and not NAME.fullmatch(cursor):
            raise no_cursor(cursor)
        store = await self._parts.store()
        more = None if limit is None else limit + 1
        found = await store.flows.list(
            workspace=self._workspace, limit=more, after=cursor, hidden=(snippets.FLOW,), reach=self._reach
        )
        items = found[:limit]
        return Page(items=items, next=items[-1].flow if len(found) > len(items) else None)

    async def flow(self, name: str) -> FlowDetail:
        self._may("flows.read", flow=name)
        return await self._detail(name)

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        self._may("flows.read", flow=name)
        await self._detail(name)
        before = None if cursor is None else number(cursor)
        store = await self._parts.store()
        return await store.flows.versions(name, workspace=self._workspace, limit=limit, before=before)

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        self._may("flows.read", flow=name)
        store = await self._parts.store()
        version = await store.flows.version(name, number, workspace=self._workspace)
        if version is None:
            await self._detail(name)
            raise UnknownFlowError(
                f"flow '{name}' has no version {number}", fix=f"see the versions with: stepbox flows versions {name}"
            )
        return version

    async def upcoming(self, name: str, *, count: int) -> Sequence["Upcoming"]:
        from engine.upcoming import upcoming  # noqa: PLC0415 - only this use case needs it

        self._may("flows.read", flow=name)
        version = (await self._detail(name)).version
        definition = self._language.load_stored(version.text, dict(version.files), path=name)
        return upcoming(definition, workspace=self._workspace, after=datetime.now(UTC), count=count)

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        self._may("flows.change", flow=name)
        store = await self._parts.store()
        async with store.transaction():
            known = await store.flows.enable(name, enabled=enabled, workspace=self._workspace)
            if known:
                await self._record(store, "flow.enable" if enabled else "flow.disable", "flow", name)
        if not known:
            await self._detail(name)
            raise InvalidCallError(f"flow '{name}' was never applied", fix="apply it: stepbox flows apply FILE")
        await self._tell_changed()
        return await self._detail(name)

    async def delete_flow(self, name: str) -> None:
        self._may("flows.change", flow=name)
        store = await self._parts.store()
        async with store.transaction():
            if not await store.flows.delete(name, workspace=self._workspace):
                raise unknown_flow(name)
            await self._record(store, "flow.delete", "flow", name)
        await self._tell_changed()

    async def _refuse_unset(self, definitions: Iterable[Definition]) -> None:
        """Make sure that the secrets are set which the steps of these flows name.

        Raises:
            UnknownSecretError: one isn't.
        """
        named = sorted({name for definition in definitions for name in secrets_named(definition)})
        if named:
            await (await self._parts.secrets()).require(self._workspace, named)

    async def _detail(self, name: str) -> FlowDetail:
        detail = await (await self._parts.store()).flows.detail(name, workspace=self._workspace)
        if detail is None:
            raise unknown_flow(name)
        return detail


def _require(precondition: Precondition, name: str, before: FlowDetail | None) -> None:
    current = None if before is None else before.tag
    if current != precondition.tag:
        now = "there is one already" if precondition.tag is None else "it has changed, or is gone"
        raise PreconditionFailedError(
            f"flow '{name}' is not as the request expects it: {now}", fix="read it again and decide anew"
        )
