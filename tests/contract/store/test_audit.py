# ruff: noqa: ASYNC240 - small files, in tests
"""The audit: what is appended is chained, what isn't committed isn't there, and whatever is tampered with is found."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from engine.audit import Actor, Target, acting_as
from engine.audit_format import BEGINNING, canonical, digest_of, seal_of
from engine.audit_mark import Mark
from engine.audit_verdict import Checkpoint, Fault, Verdict
from engine.secret_key import KeyFile, SecretKeyError
from engine.secrets import Secrets
from engine.store import Store
from engine.store.database import Database
from flows.errors import InvalidCallError

ANN = Actor(name="ann", kind="token", token="k3j9x0q2m5zt", door="api", address="192.0.2.7")

APPEND = """
import asyncio, sys
from engine.store import Store

async def main():
    async with await Store.open(sys.argv[1], files=sys.argv[2]) as store:
        for number in range(int(sys.argv[3])):
            await store.audit.append(action="secret.set", details={"number": number, "by": sys.argv[4]})
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def raw(database_url: str) -> AsyncIterator[Database]:
    """The database as somebody has it who can write to it."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def home(store: Store) -> Path:
    """Where the store has its key."""
    return store.audit.marks.directory.parent


async def fill(store: Store, count: int = 5) -> None:
    for number in range(count):
        await store.audit.append(action="secret.set", target=Target(kind="secret", id=f"s{number}"), actor=ANN)


async def looked_at(store: Store, since: Checkpoint | None = None) -> Verdict:
    return await store.audit.verify("default", since=since)


async def tamper(raw: Database, *statements: str, **values: object) -> None:
    """Do what somebody does who can write to the database: drop the fence, and what they came for."""

    def do(connection: Connection) -> None:
        for table, what in (("entry", "update"), ("entry", "delete"), ("head", "delete")):
            on = "" if connection.dialect.name == "sqlite" else f" ON audit_{table}"
            connection.execute(text(f"DROP TRIGGER IF EXISTS audit_{table}_no_{what}{on}"))
        for statement in statements:
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)

    await raw.write(do)


async def test_entries_are_chained_and_told_as_they_were(store: Store) -> None:
    with acting_as(ANN):
        await store.audit.append(
            action="flow.apply",
            target=Target(kind="flow", id="close_tasks"),
            details={"version": 3, "note": "✓ \ud800"},
        )
    await store.audit.append(action="run.end", run="01JD0000000000000000000000", outcome="failed")
    page = await store.audit.list(workspace="default")
    second, first = page.items
    assert (first.number, second.number, page.next) == (1, 2, None)
    assert first.act.actor == ANN
    assert first.act.details == {"version": 3, "note": "✓ ?"}
    assert (second.act.actor.name, second.act.run, second.act.outcome) == (
        "stepbox",
        "01JD0000000000000000000000",
        "failed",
    )
    assert (first.previous, second.previous) == (BEGINNING, first.hash)
    assert digest_of(canonical(json.loads(second.text))) == second.hash
    verdict = await looked_at(store)
    assert (verdict.problem, verdict.entries, verdict.notes) == (None, 2, ())
    assert verdict.checkpoint == Checkpoint(workspace="default", number=2, hash=second.hash)


async def test_an_entry_is_there_exactly_if_what_it_tells_of_is(store: Store) -> None:
    async def fail() -> None:
        async with store.transaction():
            await store.flows.put_version("default", "undone", "text", {}, "1")
            await store.audit.append(action="flow.apply", target=Target(kind="flow", id="undone"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    async with store.transaction():
        await store.audit.append(action="flow.apply", target=Target(kind="flow", id="done"))
        await store.flows.put_version("default", "done", "text", {}, "1")
        await store.audit.append(action="flow.enable", target=Target(kind="flow", id="done"))
    entries = await store.audit.after(0, workspace="default")
    assert [entry.act.action for entry in entries] == ["flow.apply", "flow.enable"]
    assert [flow.flow for flow in await store.flows.list()] == ["done"]
    assert (await looked_at(store)).problem is None


async def test_each_workspace_has_a_chain_of_its_own(store: Store) -> None:
    for workspace in ("default", "other", "default"):
        await store.audit.append(action="doctor", workspace=workspace)
    assert await store.audit.chains() == ("default", "other")
    assert [(await store.audit.verify(name)).last for name in ("default", "other")] == [2, 1]


FILTERS: Sequence[tuple[dict[str, Any], list[int]]] = (
    ({}, [4, 3, 2, 1]),
    ({"actor": "ann"}, [3, 2]),
    ({"action": "secret.set"}, [2, 1]),
    ({"action": "secret."}, [3, 2, 1]),
    ({"action": "secret"}, []),
    ({"run": "01jd"}, [4]),
    ({"run": "%"}, []),
    ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, [4, 3, 2, 1]),
    ({"since": datetime(2200, 1, 1, tzinfo=UTC)}, []),
    ({"limit": 3}, [4, 3, 2]),
    ({"limit": 3, "before": 3}, [2, 1]),
)


async def test_entries_are_found(store: Store) -> None:
    await store.audit.append(action="secret.set")
    await store.audit.append(action="secret.set", actor=ANN)
    await store.audit.append(action="secret.delete", actor=ANN)
    await store.audit.append(action="run.end", run="01JD0000000000000000000000")
    for filters, numbers in FILTERS:
        page = await store.audit.list(workspace="default", **filters)
        assert [entry.number for entry in page.items] == numbers, filters
        assert page.next == ("2" if filters == {"limit": 3} else None), filters


async def test_details_are_cut_to_a_size_and_stay_json_that_anybody_reads(store: Store) -> None:
    await store.audit.append(
        action="run.end",
        details={"text": "x" * 5000, "list": list(range(1000)), "deep": [[[[[[[[[1]]]]]]]]], "nul": "\0", "half": 0.5},
    )
    await store.audit.append(action="run.end", details={"texts": ["y" * 999] * 100})
    first, second = await store.audit.after(0, workspace="default")
    assert len(str(first.act.details["text"])) == 1001
    assert first.act.details["list"] == [*range(200), {"left_out": 800}]
    assert (first.act.details["nul"], first.act.details["half"]) == ("\0", "0.5")
    assert set(second.act.details) == {"left_out", "sha256"}
    assert (await looked_at(store)).last == 2


async def test_the_database_itself_refuses_a_change(store: Store, raw: Database) -> None:
    await fill(store)
    for statement in (
        "UPDATE audit_entry SET outcome = 'failed' WHERE number = 2",
        "DELETE FROM audit_entry WHERE number = 2",
        "DELETE FROM audit_head",
    ):
        with pytest.raises(IntegrityError, match="append-only"):
            await raw.write(lambda connection, statement=statement: connection.execute(text(statement)))  # type: ignore[misc]
    assert (await looked_at(store)).last == 5


_FORGE = "UPDATE audit_entry SET entry = :entry, hash = :hash, seal = :seal WHERE number = 3"
TAMPERING: dict[str, tuple[Sequence[str], Fault, int, str]] = {
    "a changed text": (
        ["UPDATE audit_entry SET entry = replace(entry, 'ann', 'bob') WHERE number = 3"],
        "changed",
        3,
        "text isn't what its hash is of",
    ),
    "a changed column": (["UPDATE audit_entry SET actor = 'bob' WHERE number = 3"], "changed", 3, "its column actor"),
    "a changed time": (
        ["UPDATE audit_entry SET at = '2020-01-01 00:00:00' WHERE number = 3"],
        "changed",
        3,
        "column at",
    ),
    "a changed seal": (["UPDATE audit_entry SET seal = 'x' WHERE number = 3"], "added", 3, "its seal is wrong"),
    "a changed entry with its hash": ([_FORGE], "added", 3, "without the key"),
    "a removed row": (["DELETE FROM audit_entry WHERE number = 3"], "missing", 3, "entry 3 is missing"),
    "removed rows": (["DELETE FROM audit_entry WHERE number IN (2, 3)"], "missing", 2, "entries 2 to 3 are missing"),
    "a removed beginning": (["DELETE FROM audit_entry WHERE number < 3"], "missing", 1, "entries 1 to 2 are missing"),
    "a removed row with the others renumbered": (
        ["DELETE FROM audit_entry WHERE number = 3", "UPDATE audit_entry SET number = number - 1 WHERE number > 3"],
        "order",
        3,
        "out of order: it was entry 4",
    ),
    "swapped rows": (
        [
            "UPDATE audit_entry SET number = -2 WHERE number = 2",
            "UPDATE audit_entry SET number = 2 WHERE number = 3",
            "UPDATE audit_entry SET number = 3 WHERE number = -2",
        ],
        "order",
        2,
        "out of order: it was entry 3",
    ),
    "a removed end": (["DELETE FROM audit_entry WHERE number > 3"], "cut", 4, "entries 4 to 5 are missing"),
    "a copied row": (
        [
            (
                "INSERT INTO audit_entry SELECT workspace, 6, at, actor, action, outcome, run_id, entry, hash, seal "
                "FROM audit_entry WHERE number = 5"
            )
        ],
        "order",
        6,
        "out of order: it was entry 5",
    ),
    "a changed head": (["UPDATE audit_head SET number = 4"], "head", 4, "names another hash"),
    "a removed head": (["DELETE FROM audit_head"], "head", 5, "missing"),
    "all of it removed": (["DELETE FROM audit_entry", "DELETE FROM audit_head"], "head", 0, "missing"),
    "no end with an old head": (
        ["DELETE FROM audit_entry WHERE number > 3", "UPDATE audit_head SET number = 3, hash = :hash3, seal = :seal3"],
        "cut",
        4,
        "this machine had added entries up to 5",
    ),
    "an old head": (["UPDATE audit_head SET number = 3, hash = :hash3, seal = :seal3"], "head", 3, "set back"),
    "a row of another workspace": (
        [
            "DELETE FROM audit_entry WHERE number = 3 AND workspace = 'default'",
            (
                "INSERT INTO audit_entry SELECT 'default', number, at, actor, action, outcome, run_id, entry, hash, seal "
                "FROM audit_entry WHERE number = 3 AND workspace = 'other'"
            ),
        ],
        "order",
        3,
        "of 'other'",
    ),
    "no key": (["DELETE FROM audit_key"], "key", 1, "can't be opened"),
}


class _UndoneError(Exception):
    """Rolls back what a test did to the database."""


async def test_tampering_is_found(store: Store) -> None:
    for workspace in ("default", "other"):
        for each in range(3):
            await store.audit.append(action="secret.set", actor=ANN, workspace=workspace, details={"each": each})
    third = (await store.audit.after(2, workspace="default"))[0]
    await store.audit.append(action="secret.set", actor=ANN)
    await store.audit.append(action="secret.set", actor=ANN)
    forged = canonical({**json.loads(third.text), "action": "secret.list"})
    values = {
        "entry": forged.decode(),
        "hash": digest_of(forged),
        "seal": seal_of(digest_of(forged), b"another key"),
        "hash3": third.hash,
        "seal3": third.seal,
    }
    for what, (statements, fault, number, message) in TAMPERING.items():
        # The other workspace's chain stays as it is, so that only its row can be told to be of another.
        own = [one if "workspace" in one or "audit_key" in one else _of_default(one) for one in statements]
        verdict = await looked_at_tampered(store, *own, **values)
        assert verdict.problem is not None, what
        assert (verdict.problem.fault, verdict.problem.number) == (fault, number), (what, verdict.problem)
        assert message in verdict.problem.message, what
        assert verdict.checkpoint is None, what
    assert (await looked_at(store)).last == 5


async def looked_at_tampered(store: Store, *statements: str, **values: object) -> Verdict:
    """What is found of tampering that is undone afterwards."""
    with suppress(_UndoneError):
        async with store.transaction():
            await tamper(store._database, *statements, **values)
            verdict = await looked_at(store)
            raise _UndoneError
    return verdict


def _of_default(statement: str) -> str:
    return f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} workspace = 'default'"


async def test_a_chain_that_was_rewritten_with_the_key_is_found_by_a_checkpoint(store: Store, raw: Database) -> None:
    await fill(store, 3)
    kept = (await looked_at(store)).checkpoint
    assert kept is not None
    await fill(store, 2)
    verdict = await looked_at(store, Checkpoint.parse(str(kept)))
    assert (verdict.problem, verdict.first, verdict.last, verdict.entries) == (None, 3, 5, 3)
    await tamper(raw, "DELETE FROM audit_entry", "DELETE FROM audit_head")
    shutil.rmtree(store.audit.marks.directory)
    await fill(store, 2)
    assert (await looked_at(store)).problem is None
    found = (await looked_at(store, kept)).problem
    assert found is not None
    assert (found.fault, found.number) == ("cut", 3)
    await fill(store, 2)
    found = (await looked_at(store, kept)).problem
    assert found is not None
    assert found.fault == "checkpoint"
    with pytest.raises(InvalidCallError, match="no checkpoint"):
        Checkpoint.parse("default:3")


@pytest.mark.parametrize("gone", ["a cut end", "all of it", "the head"])
async def test_going_on_after_tampering_tells_of_it_for_good(store: Store, raw: Database, gone: str) -> None:
    await fill(store, 3)
    third = (await store.audit.after(2, workspace="default"))[0]
    await fill(store, 2)
    cut = ("DELETE FROM audit_entry WHERE number > 3", "UPDATE audit_head SET number = 3, hash = :hash, seal = :seal")
    everything = ("DELETE FROM audit_entry", "DELETE FROM audit_head")
    statements = {"a cut end": cut, "all of it": everything, "the head": ("UPDATE audit_head SET hash = 'x'",)}
    await tamper(raw, *statements[gone], hash=third.hash, seal=third.seal)
    await fill(store, 4)
    verdict = await looked_at(store)
    assert verdict.problem is not None
    assert verdict.problem.fault == "broken"
    told = next(
        entry for entry in await store.audit.after(0, workspace="default") if entry.act.action == "audit.broken"
    )
    assert told.act.details["mark"] == 5
    # Whoever knows of it goes on from there.
    after = Checkpoint(workspace="default", number=told.number + 1, hash=(await hash_of(store, told.number + 1)))
    assert (await looked_at(store, after)).problem is None


async def hash_of(store: Store, number: int) -> str:
    return (await store.audit.after(number - 1, workspace="default"))[0].hash


async def test_a_machine_without_a_mark_says_so(store: Store) -> None:
    await fill(store)
    shutil.rmtree(store.audit.marks.directory)
    verdict = await looked_at(store)
    assert verdict.problem is None
    assert "no mark" in verdict.notes[0]


async def test_an_unreadable_mark_counts_as_none_and_is_set_again(store: Store) -> None:
    await fill(store, 1)
    (store.audit.marks.directory / "default.head").write_bytes(b"nonsense")
    assert store.audit.marks.read("default") is None
    await fill(store, 1)
    assert store.audit.marks.read("default") == Mark(number=2, hash=await hash_of(store, 2))
    store.audit.marks.move("default", Mark(number=1, hash="0" * 64))
    assert store.audit.marks.read("default") == Mark(number=2, hash=await hash_of(store, 2))


async def test_nothing_is_recorded_by_another_key_and_a_lost_one_can_be_replaced(
    database_url: str, files: Path, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "secret.key"
    key.parent.mkdir()
    async with await Store.open(database_url, files=files, keys=KeyFile(key), marks=key.parent / "audit") as store:
        await fill(store, 2)
    lost = key.rename(key.with_name("lost.key"))
    async with await Store.open(database_url, files=files, keys=KeyFile(key), marks=key.parent / "audit") as store:
        with pytest.raises(SecretKeyError, match="missing") as missing:
            await store.audit.append(action="doctor")
        assert "stepbox audit rekey" in str(missing.value.fix)
    KeyFile(key).create()
    async with await Store.open(database_url, files=files, keys=KeyFile(key), marks=key.parent / "audit") as store:
        with pytest.raises(SecretKeyError, match="another key"):
            await store.audit.append(action="doctor")
        found = (await looked_at(store)).problem
        assert found is not None
        assert (found.fault, found.number) == ("key", 1)
        await store.audit.rekey(workspace="default")
        await store.audit.append(action="doctor")
        found = (await looked_at(store)).problem
        assert found is not None
        assert (found.fault, found.number) == ("key", 1)
        entries = await store.audit.after(0, workspace="default")
        assert [entry.act.action for entry in entries[2:]] == ["audit.broken", "audit.rekey", "doctor"]
        since = Checkpoint(workspace="default", number=5, hash=entries[-1].hash)
        assert (await looked_at(store, since)).problem is None
    lost.rename(key)
    async with await Store.open(database_url, files=files, keys=KeyFile(key), marks=key.parent / "audit") as store:
        with pytest.raises(SecretKeyError, match="another key"):
            await store.audit.append(action="doctor")


async def test_a_rotated_secret_key_opens_the_audit(store: Store, database_url: str, files: Path, home: Path) -> None:
    secrets = Secrets(store.secrets, KeyFile(home / "secret.key"))
    await secrets.put("default", "hook_key", "a long enough value")
    rotation = await secrets.rotate_key()
    (kept,) = rotation.kept
    Path(kept).unlink()
    async with await Store.open(database_url, files=files) as again:
        await fill(again, 1)
        verdict = await looked_at(again)
        assert (verdict.problem, verdict.last) == (None, 3)
        actions = [entry.act.action for entry in await again.audit.after(0, workspace="default")]
        assert actions == ["secret.set", "secret.rotate_key", "secret.set"]


async def test_what_is_old_is_cut_and_the_rest_can_be_verified(store: Store, raw: Database) -> None:
    now = datetime.now(UTC)
    assert await store.audit.cut("default", before=now + timedelta(days=1)) == 0
    await fill(store, 3)
    assert await store.audit.cut("default", before=now - timedelta(days=1)) == 0
    assert await store.audit.cut("default", before=now + timedelta(days=1)) == 2
    await fill(store, 1)
    entries = await store.audit.after(0, workspace="default")
    assert [(entry.number, entry.act.action) for entry in entries] == [
        (3, "secret.set"),
        (4, "audit.cut"),
        (5, "secret.set"),
    ]
    verdict = await looked_at(store)
    assert (verdict.problem, verdict.first, verdict.entries) == (None, 3, 3)
    with pytest.raises(IntegrityError, match="append-only"):
        await raw.write(lambda connection: connection.execute(text("DELETE FROM audit_entry WHERE number = 3")))
    await tamper(raw, "DELETE FROM audit_entry WHERE number = 3")
    found = (await looked_at(store)).problem
    assert found is not None
    assert (found.fault, found.message) == ("missing", "entries 1 to 3 are missing")


async def append_elsewhere(database_url: str, files: Path, count: int, name: str) -> asyncio.subprocess.Process:
    arguments = (sys.executable, "-c", APPEND, database_url, str(files), str(count), name)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=pipe)


async def test_processes_and_tasks_that_append_at_once_make_one_chain(
    store: Store, database_url: str, files: Path
) -> None:
    process = await append_elsewhere(database_url, files, 100, "another")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"0\n"
    await asyncio.gather(*(store.audit.append(action="doctor") for _ in range(100)))
    async with asyncio.timeout(120):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    verdict = await looked_at(store)
    assert (verdict.problem, verdict.entries) == (None, 200)
    assert store.audit.marks.read("default") == Mark(number=200, hash=await hash_of(store, 200))


async def test_a_killed_process_leaves_a_chain_with_all_that_it_had_committed(
    store: Store, database_url: str, files: Path
) -> None:
    process = await append_elsewhere(database_url, files, 100_000, "killed")
    assert process.stdout is not None
    for _line in range(5):
        told = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    left = await process.stdout.read()
    told = max([told, *(int(line) for line in left.splitlines(keepends=True) if line.endswith(b"\n"))])
    entries = [entry.act.details for entry in await store.audit.after(0, workspace="default", limit=100_000)]
    assert {"number": told, "by": "killed"} in entries
    await fill(store, 1)
    assert (await looked_at(store)).problem is None


async def test_a_chain_is_looked_at_while_it_grows(store: Store) -> None:
    await fill(store, 2)
    growing = asyncio.create_task(fill(store, 60))
    looks = 0
    while not growing.done():
        assert (await looked_at(store)).problem is None
        looks += 1
    await growing
    assert looks > 0
    assert (await looked_at(store)).entries == 62
