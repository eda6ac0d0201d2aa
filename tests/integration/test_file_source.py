# ruff: noqa: ASYNC240 - small files, in tests
"""The files of a directory as events, with the real file system."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

from tests.told import HANG, Told, told
from triggers.file.config import FilePattern, FileTrigger
from triggers.file.snapshot import Snapshot
from triggers.file.source import FileSource


def source(directory: Path, *, known: Snapshot | None = None, look: float = 1.0, **more: Any) -> FileSource:
    pattern = FilePattern.model_validate({"path": str(directory), "settle": 0.2, **more})
    return FileSource(FileTrigger(id="files", file=pattern), known=known, look=look)


async def some(events: Told, count: int) -> list[tuple[str, str]]:
    found = await events.take(count)
    return sorted((arrival.event.data["name"], arrival.event.data["change"]) for arrival in found)


async def until_watched(of: FileSource) -> None:
    """Until the first look has been."""
    async with asyncio.timeout(HANG):
        while of._known is None:  # noqa: ASYNC110 - the source tells nobody
            await asyncio.sleep(0.02)


async def test_what_is_there_at_first_is_not_told_and_what_comes_is(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("1")
    of = source(tmp_path)
    async with told(of) as events:
        pending = asyncio.ensure_future(events.next())
        await until_watched(of)
        (tmp_path / "new.csv").write_text("12")
        arrival = await pending
    data = arrival.event.data
    assert (data["path"], data["name"], data["change"], data["size"]) == (
        str(tmp_path / "new.csv"),
        "new.csv",
        "added",
        2,
    )
    assert (arrival.event.kind, arrival.unfit) == ("file", None)
    assert sorted(of.known.files) == ["new.csv", "old.csv"]


async def test_what_happened_while_nothing_ran_is_told_at_the_start(tmp_path: Path) -> None:
    for name in ("same", "changed", "gone"):
        (tmp_path / name).write_text(name)
    of = source(tmp_path)
    async with told(of) as events:
        assert await events.nothing(0.3)
    known = Snapshot.read(of.known.document())
    (tmp_path / "changed").write_text("other text")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("new")
    of = source(tmp_path, known=known, changes=["added", "modified", "deleted"])
    async with told(of) as events:
        assert await some(events, 3) == [("changed", "modified"), ("gone", "deleted"), ("new", "added")]
    async with told(source(tmp_path, known=of.known)) as events:
        assert await events.nothing(0.8)


async def test_what_is_not_acknowledged_is_told_again_after_a_restart_with_the_same_key(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot())
    (tmp_path / "a").write_text("1")
    async with told(of) as events:
        first = await events.next(acknowledge=False)
        assert await events.nothing()
    assert of.known.files == {}
    async with told(source(tmp_path, known=of.known)) as events:
        second = await events.next()
    assert second.event.key == first.event.key
    assert second.event.data == first.event.data


async def test_a_file_that_grows_is_told_once_it_has_settled(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot(), settle="600ms", look=0.2)
    async with told(of) as events:
        pending = asyncio.ensure_future(events.next())
        with (tmp_path / "growing").open("w") as file:
            for _ in range(8):
                file.write("x" * 1000)
                file.flush()
                await asyncio.sleep(0.2)
        assert (await pending).event.data["size"] == 8000
        assert await events.nothing()


async def test_a_change_after_one_that_is_not_acknowledged_is_told_as_well(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot())
    async with told(of) as events:
        (tmp_path / "a").write_text("1")
        first = await events.next(acknowledge=False)
        (tmp_path / "a").write_text("22")
        second = await events.next(acknowledge=False)
        await first.acknowledge()
        await second.acknowledge()
        assert [one.event.data["size"] for one in (first, second)] == [1, 2]
        assert first.event.key != second.event.key
        assert await events.nothing(0.6)
    assert of.known.files["a"].size == 2


async def test_only_the_changes_that_are_asked_for(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot(), changes=["deleted"])
    async with told(of) as events:
        (tmp_path / "a").write_text("1")
        assert await events.nothing(0.8)
        (tmp_path / "a").unlink()
        arrival = await events.next()
    assert (arrival.event.data["change"], arrival.event.data["size"]) == ("deleted", None)


async def test_a_directory_may_come_go_and_come_again(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    of = source(directory, known=Snapshot(), look=0.2)
    async with told(of) as events:
        assert await events.nothing(0.5)
        assert "No such file" in str(of.trouble)
        directory.mkdir()
        (directory / "a").write_text("1")
        await events.next()
        assert of.trouble is None
        shutil.rmtree(directory)
        assert await events.nothing(0.6)
        directory.mkdir()
        (directory / "b").write_text("1")
        assert (await events.next()).event.data["name"] == "b"


async def test_a_renamed_file_counts_as_a_new_one(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot())
    async with told(of) as events:
        (tmp_path / ".part").write_text("all of it")
        assert await events.nothing(0.6)
        (tmp_path / ".part").rename(tmp_path / "whole")
        assert (await events.next()).event.data["name"] == "whole"


async def test_a_name_that_is_no_text_is_unfit(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot())
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))).write_text("x")
    async with told(of) as events:
        arrival = await events.next()
        assert arrival.unfit == "the name of the file is not UTF-8"
        assert arrival.event.data["name"] == "\\udcff.csv"
        assert await events.nothing(0.5)


async def test_many_files_at_once_are_each_told_once(tmp_path: Path) -> None:
    of = source(tmp_path, known=Snapshot(), glob="**/*.csv")
    for number in range(1000):
        (tmp_path / str(number % 10)).mkdir(exist_ok=True)
        (tmp_path / str(number % 10) / f"{number}.csv").touch()
    async with told(of) as events:
        found = [(await events.next()).event.key for _ in range(1000)]
        assert await events.nothing(0.5)
    assert len(set(found)) == 1000
