"""Requests over the network, as both databases keep them."""

import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest

from engine.records import Run
from engine.store import Store
from engine.store.errors import AlreadyFinishedError, UnknownRecordError
from flows.contracts import EgressDecision

ALLOWED = EgressDecision(host="api.example.com", port=443, address="2606:4700::1111", allowed=True)
REFUSED = EgressDecision(host="evil.com", port=8443, allowed=False, reason="evil.com:8443 is not in network.allow")
UNREACHABLE = EgressDecision(host="api.example.com", port=443, allowed=True, reason="it doesn't answer")


@pytest.fixture
async def run(store: Store) -> Run:
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    return await store.runs.create(version, {}, running=True)


async def test_a_request_is_open_until_its_bytes_are_known(store: Store, run: Run) -> None:
    begun = await store.egress.record(run.id, "s", ALLOWED, attempt=2, item=3)
    assert await store.egress.list(run.id) == (begun,)
    assert (begun.host, begun.port, begun.address, begun.allowed) == ("api.example.com", 443, "2606:4700::1111", True)
    assert (begun.label, begun.attempt, begun.item, begun.reason) == ("s[3]", 2, 3, None)
    assert (begun.sent, begun.received, begun.ended_at) == (None, None, None)
    await store.egress.finish(begun.id, sent=5_000_000_000, received=6_000_000_000, reason="it broke off")
    (ended,) = await store.egress.list(run.id)
    assert (ended.sent, ended.received, ended.reason) == (5_000_000_000, 6_000_000_000, "it broke off")
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at


@pytest.mark.parametrize("decision", [REFUSED, UNREACHABLE])
async def test_a_request_that_is_not_made_is_over_at_once(store: Store, run: Run, decision: EgressDecision) -> None:
    record = await store.egress.record(run.id, "s", decision)
    assert await store.egress.list(run.id) == (record,)
    assert (record.allowed, record.reason, record.item) == (decision.allowed, decision.reason, None)
    assert (record.sent, record.received, record.ended_at) == (0, 0, record.started_at)
    with pytest.raises(AlreadyFinishedError):
        await store.egress.finish(record.id, sent=1, received=1)


async def test_an_end_is_never_changed(store: Store, run: Run) -> None:
    record = await store.egress.record(run.id, "s", ALLOWED)
    await store.egress.finish(record.id, sent=1, received=2)
    with pytest.raises(AlreadyFinishedError):
        await store.egress.finish(record.id, sent=9, received=9)
    with pytest.raises(UnknownRecordError):
        await store.egress.finish("nothing", sent=1, received=1)
    (kept,) = await store.egress.list(run.id)
    assert (kept.sent, kept.received) == (1, 2)


async def test_records_are_listed_by_run_in_the_order_of_the_decisions(store: Store, run: Run) -> None:
    version = await store.flows.put_version("default", "other", "text", {}, "digest")
    other = await store.runs.create(version, {}, running=True)
    for host in ("c.example", "a.example", "b.example"):
        for owner in (run, other):
            await store.egress.record(owner.id, "s", EgressDecision(host=host, port=443, allowed=True))
    assert [record.host for record in await store.egress.list(run.id)] == ["c.example", "a.example", "b.example"]


CRASHES = """
import asyncio, os, sys
from engine.store import Store
from flows.contracts import EgressDecision

async def main():
    store = await Store.open(sys.argv[1], files=sys.argv[2])
    await store.leases.take_over(sys.argv[3], dead=sys.argv[4])
    await store.egress.record(sys.argv[3], "s", EgressDecision(host="api.example.com", port=443, allowed=True))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_decision_survives_what_becomes_of_stepbox(
    store: Store, run: Run, database_url: str, files: Path
) -> None:
    process = await create_subprocess_exec(
        *(sys.executable, "-c", CRASHES, database_url, str(files), run.id, store.engine), stdout=PIPE, stderr=PIPE
    )
    assert (await process.communicate(), process.returncode) == ((b"", b""), -9)
    (record,) = await store.egress.list(run.id)
    assert (record.host, record.allowed, record.ended_at) == ("api.example.com", True, None)
