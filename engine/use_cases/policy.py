"""The policy of the workspace: what its flows may do at most."""

import difflib
from collections.abc import Mapping

from engine import workspace_policy
from engine.records import Page
from engine.service import Precondition, PreconditionFailedError
from engine.service.policy import PolicyChange
from engine.store.errors import UnknownRecordError
from engine.use_cases.acting import Acting
from engine.use_cases.cursors import number as number_of
from engine.workspace_policy import PolicyVersion
from flows.values import Json


class PolicyUseCases(Acting):
    """The policy of the workspace: what its flows may do at most."""

    async def policy(self) -> PolicyVersion:
        self._may("policy.read")
        return await (await self._parts.store()).policies.current(self._workspace)

    async def policy_version(self, number: int) -> PolicyVersion:
        self._may("policy.read")
        found = await (await self._parts.store()).policies.find(self._workspace, number)
        if found is None:
            raise UnknownRecordError(
                f"the policy has no version {number}", fix="see the numbers: stepbox policy versions"
            )
        return found

    async def policy_versions(self, *, limit: int = 50, cursor: str | None = None) -> Page[PolicyVersion]:
        self._may("policy.read")
        before = None if cursor is None else number_of(cursor)
        store = await self._parts.store()
        found = await store.policies.list(self._workspace, limit=limit + 1, before=before)
        items = found[:limit]
        return Page(items=items, next=str(items[-1].number) if len(found) > limit else None)

    async def set_policy(
        self, document: Mapping[str, Json], *, precondition: Precondition | None = None, dry_run: bool = False
    ) -> PolicyChange:
        self._may("policy.change")
        workspace_policy.parse(document)
        store = await self._parts.store()
        async with store.transaction():
            await store.policies.lock(self._workspace)
            before = await store.policies.current(self._workspace)
            if precondition is not None and precondition.tag != before.tag:
                raise PreconditionFailedError(
                    f"version {before.number} of the policy is in force, which isn't the one that the request expects",
                    fix="read it again and decide anew",
                )
            change = _change(before, document)
            if change.change == "unchanged" or dry_run:
                return change
            version = await store.policies.add(self._workspace, before.number + 1, document, by=self._principal.name)
            details = {"previous": before.number, "diff": change.diff}
            await self._record(store, "policy.set", "policy", str(version.number), details)
            store.once_committed(lambda: self._parts.policies.changed(version))
        return PolicyChange(version=version, previous=before.number, change=change.change, diff=change.diff)


def _change(before: PolicyVersion, document: Mapping[str, Json]) -> PolicyChange:
    """What would change; its version is the one before, with the document."""
    old, new = workspace_policy.as_text(before.document), workspace_policy.as_text(document)
    same = before.number > 0 and before.document == document
    names = ("/dev/null" if before.number == 0 else f"a/policy {before.number}", f"b/policy {before.number + 1}")
    lines = difflib.unified_diff([] if before.number == 0 else old.splitlines(), new.splitlines(), *names, lineterm="")
    return PolicyChange(
        version=before if same else PolicyVersion(workspace=before.workspace, document=document),
        previous=before.number,
        change="unchanged" if same else "created" if before.number == 0 else "updated",
        diff="" if same else "\n".join(lines),
    )
