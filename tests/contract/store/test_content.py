"""What every implementation of WorkspaceContent does: the one in memory, and the store's on each database."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.store import Store
from engine.store.errors import StoreError
from steps.tools.content import Document, DocumentChanges, File, Task, TaskChanges, TaskQuery, WorkspaceContent
from tests.unit.steps.tools.memory import MemoryContent

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> str | None:
    """The URL of the database; None for memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def content(place: str | None, files: Path) -> AsyncIterator[WorkspaceContent]:
    if place is None:
        yield MemoryContent()
        return
    async with await Store.open(place, files=files) as store:
        yield store.content


def document(number: int = 1, *, name: str = "Document", content: str = "text", capital: bool = False) -> Document:
    document_id = f"{'Doc' if capital else 'doc'}-{number}"
    return Document(id=document_id, name=name, content=content, created_at=NOW, updated_at=NOW)


def task(number: int, *, status: str = "open", age: int = 0, labels: tuple[str, ...] = ()) -> Task:
    return Task(
        id=f"task-{number}",
        title=f"Task {number}",
        status_id=status,
        labels=labels,
        created_at=NOW,
        updated_at=NOW - timedelta(days=age),
    )


def file(content: bytes, file_id: str = "sales") -> File:
    return File(
        id=file_id,
        name=f"{file_id}.csv",
        format="csv",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=NOW,
        updated_at=NOW,
    )


async def ids(content: WorkspaceContent, query: TaskQuery) -> list[int]:
    return [int(found.id.removeprefix("task-")) for found in await content.search_tasks("default", query)]


async def test_what_is_unknown_is_none_or_false(content: WorkspaceContent) -> None:
    assert await content.get_document("default", "x") is None
    assert await content.update_document("default", "x", DocumentChanges(name="y")) is None
    assert not await content.delete_document("default", "x")
    assert await content.get_task("default", "x") is None
    assert await content.update_task("default", "x", TaskChanges(title="y")) is None
    assert not await content.delete_task("default", "x")
    assert await content.get_file("default", "x") is None
    assert await content.read_file("default", "x") is None
    assert not await content.delete_file("default", "x")


async def test_an_id_is_taken_once(content: WorkspaceContent) -> None:
    assert await content.create_document("default", document())
    assert not await content.create_document("default", document(content="other"))
    assert await content.get_document("default", "doc-1") == document()
    assert await content.create_task("default", task(1))
    assert not await content.create_task("default", task(1, status="other"))
    assert await content.get_task("default", "task-1") == task(1)


async def test_a_workspace_sees_only_its_own(content: WorkspaceContent) -> None:
    await content.create_document("default", document())
    await content.create_task("default", task(1))
    await content.put_file("default", file(b"a"), b"a")
    assert await content.get_document("other", "doc-1") is None
    assert await content.update_task("other", "task-1", TaskChanges(title="y")) is None
    assert await content.read_file("other", "sales") is None
    assert not await content.delete_document("other", "doc-1")
    assert await content.search_tasks("other", TaskQuery()) == ()
    assert await content.list_files("other", text=None, limit=10, offset=0) == ()
    assert await content.document_ids("other") == ()


async def test_an_update_changes_only_what_it_names(content: WorkspaceContent) -> None:
    await content.create_document("default", document())
    later = NOW + timedelta(seconds=1)
    changed = await content.update_document("default", "doc-1", DocumentChanges(content="Grüße", updated_at=later))
    assert changed == replace(document(), content="Grüße", updated_at=later)
    assert await content.get_document("default", "doc-1") == changed
    before = replace(task(1, labels=("a",)), assignee_id="ann", description="why")
    await content.create_task("default", before)
    updated = await content.update_task("default", "task-1", TaskChanges(status_id="done", assignee_id=None))
    assert updated == replace(before, status_id="done", assignee_id=None)
    assert await content.update_task("default", "task-1", TaskChanges(labels=("b", "c"))) == replace(
        before, status_id="done", assignee_id=None, labels=("b", "c")
    )


async def test_updates_at_once_are_all_kept(content: WorkspaceContent) -> None:
    await content.create_task("default", task(1))
    await asyncio.gather(
        content.update_task("default", "task-1", TaskChanges(title="new")),
        content.update_task("default", "task-1", TaskChanges(status_id="done")),
        content.update_task("default", "task-1", TaskChanges(description="why")),
    )
    found = await content.get_task("default", "task-1")
    assert found is not None
    assert (found.title, found.status_id, found.description) == ("new", "done", "why")


async def test_documents_are_listed_by_id_and_text(content: WorkspaceContent) -> None:
    for number, name in ((3, "Überblick"), (1, "100% done"), (2, "plain")):
        await content.create_document("default", document(number, name=name))
    await content.create_document("default", document(10, capital=True))

    async def listed(text: str | None, limit: int = 10, offset: int = 0) -> list[str]:
        found = await content.list_documents("default", text=text, limit=limit, offset=offset)
        return [one.id for one in found]

    assert await listed(None) == ["Doc-10", "doc-1", "doc-2", "doc-3"]
    assert await listed(None, limit=2, offset=1) == ["doc-1", "doc-2"]
    assert await listed("ÜBERBLICK") == ["doc-3"]
    assert await listed("0%") == ["doc-1"]
    assert await listed("_") == []
    assert await content.document_ids("default") == ("Doc-10", "doc-1", "doc-2", "doc-3")
    assert await content.delete_document("default", "doc-1")
    assert await listed(None) == ["Doc-10", "doc-2", "doc-3"]


async def test_tasks_are_found_by_every_criterion(content: WorkspaceContent) -> None:
    for one in (
        task(1, status="in_progress", age=40),
        task(2, status="in_progress", age=31, labels=("urgent", 'a"b')),
        replace(task(3, status="in_progress", age=5), assignee_id="ann", description="needs ANN's eye"),
        task(4, status="done", age=50, labels=("urgent",)),
    ):
        await content.create_task("default", one)
    month_ago = NOW - timedelta(days=30)
    assert await ids(content, TaskQuery()) == [4, 1, 2, 3]
    assert await ids(content, TaskQuery(statuses=["in_progress"], updated_before=month_ago)) == [1, 2]
    assert await ids(content, TaskQuery(updated_after=month_ago)) == [3]
    assert await ids(content, TaskQuery(updated_before=NOW - timedelta(days=40))) == [4]
    assert await ids(content, TaskQuery(statuses=["done", "open"])) == [4]
    assert await ids(content, TaskQuery(label="urgent")) == [4, 2]
    assert await ids(content, TaskQuery(label='a"b')) == [2]
    assert await ids(content, TaskQuery(label="urg")) == []
    assert await ids(content, TaskQuery(assignee_id="ann")) == [3]
    assert await ids(content, TaskQuery(text="ann's")) == [3]
    assert await ids(content, TaskQuery(text="TASK 2")) == [2]
    assert await ids(content, TaskQuery(limit=2, offset=1)) == [1, 2]
    assert await content.delete_task("default", "task-4")
    assert await content.task_ids("default") == ("task-1", "task-2", "task-3")


async def test_a_file_keeps_its_bytes(content: WorkspaceContent) -> None:
    data = bytes(range(256)) * 10
    assert await content.put_file("default", file(data), data) == file(data)
    assert await content.read_file("default", "sales") == (file(data), data)
    assert await content.get_file("default", "sales") == file(data)
    await content.put_file("default", file(b"", "empty"), b"")
    assert await content.read_file("default", "empty") == (file(b"", "empty"), b"")
    assert await content.file_ids("default") == ("empty", "sales")
    assert [one.id for one in await content.list_files("default", text="SALES", limit=5, offset=0)] == ["sales"]


async def test_a_file_is_replaced_and_keeps_when_it_was_created(content: WorkspaceContent) -> None:
    await content.put_file("default", file(b"old"), b"old")
    later = NOW + timedelta(hours=1)
    new = replace(file(b"new!"), created_at=later, updated_at=later)
    assert await content.put_file("default", new, b"new!") == replace(new, created_at=NOW)
    assert await content.read_file("default", "sales") == (replace(new, created_at=NOW), b"new!")


async def test_deleting_a_file_leaves_another_one_with_the_same_content(content: WorkspaceContent) -> None:
    await content.put_file("default", file(b"same", "a"), b"same")
    await content.put_file("default", file(b"same", "b"), b"same")
    assert await content.delete_file("default", "a")
    found = await content.read_file("default", "b")
    assert found is not None
    assert found[1] == b"same"


class TestInTheStore:
    """What only the store has: contents beside the database, and transactions."""

    @pytest.fixture
    def database_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'x.db'}"

    @staticmethod
    def kept(files: Path) -> list[str]:
        return sorted(path.name for path in files.rglob("*") if path.is_file())

    @staticmethod
    def lose(files: Path) -> None:
        next(path for path in files.rglob("*") if path.is_file()).unlink()

    async def test_a_content_goes_with_the_last_file_that_has_it(self, store: Store, files: Path) -> None:
        for file_id in ("a", "b"):
            await store.content.put_file("default", file(b"same", file_id), b"same")
        assert self.kept(files) == [file(b"same").sha256]
        await store.content.delete_file("default", "a")
        assert self.kept(files) == [file(b"same").sha256]
        await store.content.put_file("default", file(b"other", "b"), b"other")
        assert self.kept(files) == [file(b"other").sha256]
        await store.content.delete_file("default", "b")
        assert self.kept(files) == []

    async def test_a_rolled_back_deletion_keeps_the_content(self, store: Store) -> None:
        await store.content.put_file("default", file(b"data"), b"data")

        async def delete_and_fail() -> None:
            async with store.transaction():
                await store.content.delete_file("default", "sales")
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            await delete_and_fail()
        assert await store.content.read_file("default", "sales") == (file(b"data"), b"data")

    async def test_a_write_commits_together_with_its_record(self, store: Store, files: Path) -> None:
        version = await store.flows.put_version("default", "flow", "text", {}, "digest")
        run = await store.runs.create(version, {}, running=True)
        await store.content.put_file("default", file(b"data"), b"data")
        async with store.transaction():
            call = await store.calls.begin(run.id, "s", "workspace.delete_file", {})
            await store.content.delete_file("default", "sales")
            await store.calls.finish(call.id, result=True)
            assert self.kept(files)
        assert self.kept(files) == []

    async def test_a_lost_content_says_so(self, store: Store, files: Path) -> None:
        await store.content.put_file("default", file(b"data"), b"data")
        self.lose(files)
        with pytest.raises(StoreError, match="'sales' is gone"):
            await store.content.read_file("default", "sales")
