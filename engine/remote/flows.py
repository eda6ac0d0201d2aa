"""Flows: read, checked, put into service and taken out of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine import flow_changes
from engine.records import FlowDetail, FlowSummary, FlowVersion, Page
from engine.remote import records
from engine.remote.calling import Calling
from engine.service import AppliedFlow, FlowText, Precondition
from flows.definition import Definition
from flows.errors import InvalidCallError

if TYPE_CHECKING:
    from engine.upcoming import Upcoming


class FlowCalls(Calling):
    """Flows: read, checked, put into service and taken out of it."""

    def load(self, flow: FlowText) -> Definition:
        return flow_changes.load(flow, self._language)

    async def definition(self, flow: str) -> Definition:
        version = (await self.flow(flow)).version
        return self._language.load_stored(version.text, dict(version.files), path=f"{flow} v{version.number}")

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        definitions = await flow_changes.gather(flows, self._language)
        if precondition is not None and not dry_run:
            return [await self._put(definitions, precondition)]
        paths = flow_changes.paths(flows, definitions)
        texts = [
            {"text": one.text, "files": dict(one.files), "path": paths.get(name, f"{name}.yaml")}
            for name, one in definitions.items()
        ]
        done = await self._client.call("POST", "/flows", body={"flows": texts, "dry_run": dry_run})
        return [records.applied(one) for one in done["items"]]

    async def _put(self, definitions: Mapping[str, Definition], precondition: Precondition) -> AppliedFlow:
        if len(definitions) != 1:
            raise InvalidCallError("a precondition is for one flow alone", fix="apply its subflows first")
        ((name, one),) = definitions.items()
        tag = precondition.tag
        condition = {"If-None-Match": "*"} if tag is None else {"If-Match": f'"{tag}"'}
        body = {"text": one.text, "files": dict(one.files)}
        return records.applied(await self._client.call("PUT", f"/flows/{quote(name)}", body=body, headers=condition))

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        if limit is None:
            found = await self._client.pages("/flows")
            return Page(items=tuple(records.flow_summary(one) for one in found))
        page = await self._client.call("GET", "/flows", query={"limit": limit, "cursor": cursor})
        return Page(items=tuple(records.flow_summary(one) for one in page["items"]), next=page["next"])

    async def flow(self, name: str) -> FlowDetail:
        return records.flow_detail(await self._client.call("GET", f"/flows/{quote(name)}"))

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        query = {"limit": limit, "cursor": cursor}
        page = await self._client.call("GET", f"/flows/{quote(name)}/versions", query=query)
        return Page(items=tuple(records.flow_version(one) for one in page["items"]), next=page["next"])

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        return records.flow_version(await self._client.call("GET", f"/flows/{quote(name)}/versions/{number}"))

    async def upcoming(self, name: str, *, count: int) -> "Sequence[Upcoming]":
        path = f"/flows/{quote(name, safe='')}/next"
        return [
            records.upcoming(one) for one in (await self._client.call("GET", path, query={"count": count}))["items"]
        ]

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        action = "enable" if enabled else "disable"
        return records.flow_detail(await self._client.call("POST", f"/flows/{quote(name)}/{action}"))

    async def delete_flow(self, name: str) -> None:
        await self._client.call("DELETE", f"/flows/{quote(name)}")
