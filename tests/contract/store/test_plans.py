"""No operation of a run gets slower as the tables grow: every statement finds its rows by an index."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, event, text

from engine.deliveries import DeliveryStatus, NewEvent, Recipient, TriggerPosition
from engine.principals import GrantPatterns
from engine.records import FlowVersion, LogLine
from engine.store import Store
from flows.contracts import EgressDecision, StepError, StepResult
from flows.values import RunStatus, StepStatus
from steps.tools.content import Task, TaskChanges, TaskQuery

NOW = datetime.now(UTC)

DERIVED = re.compile(r"SCAN (in_line|held|\(subquery-\d+\))")
"""What a statement has made itself, of rows that it found by an index."""


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """What is executed meanwhile, with its parameters."""
    found: list[tuple[str, Any]] = []

    def remember(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:  # noqa: FBT001
        found.append((statement, parameters[0] if many else parameters))

    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", remember)
    yield found
    event.remove(engine, "before_cursor_execute", remember)


async def everything_a_principal_does(store: Store, version: FlowVersion) -> None:
    everything = GrantPatterns(tools=["*"], flows=["*"])
    me = await store.principals.create("me", kind="person", role="admin", grants=everything, by="test")
    await store.principals.current("default", "me")
    await store.principals.list(limit=5, after="a")
    await store.flows.applied_by(version.id)
    await store.tokens.create("t", "hash", principal=me)


async def everything_a_run_does(store: Store) -> None:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    await store.flows.put_version("default", "flow", "text", {}, "digest")
    await store.flows.current("flow")
    await store.flows.get(version.id)
    run = await store.runs.create(version, {})
    await store.start_keys.claim("default", "key", "digest", run.id)
    await store.start_keys.find("default", "key")
    await store.undriven.queued()
    await store.runs.start(run.id)
    await store.runs.request_cancel(run.id)
    await store.runs.asked_to_cancel()
    await store.undriven.cancelled()
    await store.runs.count(RunStatus.QUEUED)
    await store.steps.changed(run.id, NOW)
    await everything_a_principal_does(store, version)
    await store.tokens.find("t")
    await store.tokens.touch("t", NOW)
    await store.flows.put_version("default", "flow", "text", {}, "digest", apply=True)
    await store.flows.detail("flow")
    await store.flows.version("flow", 1)
    await store.flows.versions("flow")
    await store.flows.enable("flow", enabled=False)
    step = await store.steps.start(run.id, "s")
    await store.logs.append([LogLine(run_id=run.id, step_id="s", attempt=1, stream="stdout", line="x", at=NOW)])
    call = await store.calls.begin(run.id, "s", "files.read", {})
    await store.calls.finish(call.id)
    await store.calls.list(run.id, step_id="s")
    record = await store.egress.record(run.id, "s", EgressDecision(host="a.example", port=443, allowed=True))
    await store.egress.finish(record.id, sent=1, received=2)
    await store.egress.list(run.id)
    await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED))
    await store.steps.list(run.id)
    await store.steps.summaries(run.id)
    await store.runs.finish(run.id, RunStatus.SUCCEEDED)
    await store.runs.get(run.id)
    await store.runs.find(run.id[:20])
    await store.logs.list(run.id)
    for flow in (None, "flow"):
        for status in (None, RunStatus.FAILED):
            await store.runs.list(flow=flow, status=status)
    await store.flows.list()
    content = store.content
    await content.create_task("default", Task(id="t", title="T", status_id="open", created_at=NOW, updated_at=NOW))
    await content.get_task("default", "t")
    await content.update_task("default", "t", TaskChanges(status_id="done"))
    await content.search_tasks("default", TaskQuery(statuses=["open"], updated_before=NOW))
    await content.search_tasks("default", TaskQuery(updated_before=NOW))
    await content.get_document("default", "d")
    await content.read_file("default", "f")
    await intake(store, version)


async def intake(store: Store, version: FlowVersion) -> None:
    """What becomes of an event."""
    origin = NewEvent(workspace="default", kind="webhook", origin="o", key="k", data={}, occurred_at=NOW)
    recipients = [
        Recipient(flow="flow", flow_version_id=version.id, trigger_id=trigger) for trigger in ("started", "dead")
    ]
    position = TriggerPosition(workspace="default", flow="flow", trigger_id="started", moves=0, value="x")
    accepted = await store.events.accept(origin, recipients, move=position)
    await store.events.accept(origin, recipients, move=replace(position, moves=1))
    await store.events.position("default", "flow", "started")
    await store.events.claim(now=datetime.now(UTC), until=NOW, limit=10)
    await store.events.next_due()
    started, dead = accepted.deliveries
    await store.events.end(started.id, DeliveryStatus.STARTED)
    await store.events.postpone(dead.id, due_at=NOW, error=StepError(code="c", message="m"))
    await store.events.end(dead.id, DeliveryStatus.DEAD)
    await store.events.redrive(dead.id, flow_version_id=version.id, now=NOW)
    await store.events.get(accepted.event.id)
    for flow in (None, "flow"):
        await store.events.deliveries(flow=flow, cursor=dead.id)
    await store.events.deliveries(status=DeliveryStatus.DEAD)


def plan(connection: Connection, statement: str, parameters: Any) -> list[str]:
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    return [str(row) for row in connection.exec_driver_sql(explain + statement, parameters)]


async def test_every_statement_of_a_run_finds_its_rows_by_an_index(store: Store) -> None:
    # The first entry of the audit reads its key, of which there are few, and each process does so once.
    await store.audit.append(action="doctor")
    with statements(store) as found:
        await everything_a_run_does(store)
    found = [(sql, given) for sql, given in found if sql.lstrip().startswith(("SELECT", "UPDATE", "INSERT"))]
    assert len(found) > 25

    def plans(connection: Connection) -> dict[str, list[str]]:
        if connection.dialect.name == "postgresql":
            # On tables this small a scan would be right; what is asked is whether there is another way.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        return {sql: plan(connection, sql, given) for sql, given in found if "advisory" not in sql}

    scans = {
        sql: lines
        for sql, lines in (await store._database.read(plans)).items()
        for line in lines
        if "Seq Scan" in line or ("SCAN " in line and "CONSTANT" not in line and not DERIVED.search(line))
    }
    assert scans == {}


async def test_ten_thousand_runs_do_not_change_how_much_is_read(store: Store) -> None:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    template = await store.runs.create(version, {})

    def fill(connection: Connection) -> None:
        columns = "workspace, flow, flow_version_id, status, inputs, trigger, created_at"
        numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)"
        connection.execute(
            text(
                f"INSERT INTO run (id, {columns}) {numbers} "
                f"SELECT substr('0000000000000000000000' || n, -22), {columns} FROM n, run WHERE run.id = :id"
            )
            if connection.dialect.name == "sqlite"
            else text(
                f"INSERT INTO run (id, {columns}) {numbers} "
                f"SELECT lpad(n::text, 22, '0'), {columns} FROM n, run WHERE run.id = :id"
            ),
            {"id": template.id},
        )
        connection.execute(text("ANALYZE"))

    await store._database.write(fill)
    page = await store.runs.list(flow="flow", status=RunStatus.QUEUED, limit=10)
    assert (len(page.items), page.items[0].id) == (10, template.id)
    assert page.next is not None
    with statements(store) as found:
        await store.runs.list(flow="flow", status=RunStatus.QUEUED, limit=10, cursor=page.next)
        await store.runs.list(status=RunStatus.FAILED, limit=10)
        await store.flows.list()
    queries = [(sql, given) for sql, given in found if sql.startswith("SELECT")]
    for sql, given in queries:
        lines = await store._database.read(lambda connection, sql=sql, given=given: plan(connection, sql, given))  # type: ignore[misc]
        assert not [line for line in lines if ("Seq Scan on run" in line) or "SCAN run" in line], (sql, lines)
