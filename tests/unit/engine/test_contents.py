"""Where the contents of artifacts are kept: a directory, or another place that fsspec reaches; slow, full or broken."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from engine.store import contents
from engine.store.contents import ArtifactContents, ArtifactDamagedError, ArtifactsUnavailableError, media_type
from engine.store.spool import Spool
from flows.contracts import Artifact, CollectedFile


class Slow(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A place that takes its time."""

    protocol = "slow"
    cachable = False

    def exists(self, _path: str, **_more: object) -> bool:
        time.sleep(30)
        return True

    size = exists


@pytest.fixture(params=["directory", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "artifacts") if request.param == "directory" else f"memory://{uuid4().hex}/root"


@pytest.fixture
def artifacts(place: str, tmp_path: Path) -> Iterator[ArtifactContents]:
    made = ArtifactContents(place, tmp_path / "spool")
    yield made
    made.spool.close()


def collected(spool: Spool, **files: bytes) -> list[CollectedFile]:
    directory = spool.directory()
    made = []
    for number, (path, content) in enumerate(files.items()):
        (directory / str(number)).write_bytes(content)
        digest = sha256(content).hexdigest()
        made.append(CollectedFile(path=path, size=len(content), sha256=digest, content=directory / str(number)))
    return made


async def test_contents_come_back(artifacts: ArtifactContents) -> None:
    kept = await artifacts.keep(collected(artifacts.spool, a=b"one", b=b"two", again=b"one", empty=b""))
    assert [one.path for one in kept] == ["a", "b", "again", "empty"]
    assert len({one.id for one in kept}) == 4
    found = await artifacts.fetch(kept, artifacts.spool.directory)
    assert [path.read_bytes() for path in found] == [b"one", b"two", b"one", b""]


async def test_the_same_content_is_kept_once(tmp_path: Path) -> None:
    artifacts = ArtifactContents(str(tmp_path / "a"))
    for _ in range(3):
        await artifacts.keep(collected(artifacts.spool, a=b"same", b=b"same"))
    artifacts.spool.close()
    digest = sha256(b"same").hexdigest()
    assert [str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*") if path.is_file()] == [
        f"{digest[:2]}/{digest}"
    ]
    assert (
        (tmp_path / "a" / digest[:2]).stat().st_mode & 0o077,
        list((tmp_path / "a" / ".spool").iterdir()),
    ) == (0, [])


@pytest.mark.parametrize("damage", [b"", b"tw", b"TWO", b"two and more", None])
async def test_what_is_damaged_is_an_error_and_leaving_it_again_repairs_it(
    artifacts: ArtifactContents, place: str, damage: bytes | None
) -> None:
    (kept,) = await artifacts.keep(collected(artifacts.spool, a=b"two"))
    files, root = fsspec.url_to_fs(place)
    name = f"{root}/{kept.sha256[:2]}/{kept.sha256}"
    files.rm(name)
    if damage is not None:
        files.pipe_file(name, damage)
    with pytest.raises(ArtifactDamagedError, match="'a' is gone or damaged"):
        await artifacts.fetch([kept], artifacts.spool.directory)
    if "memory" in place and damage == b"TWO":
        # Of the right size: another place is not read just to be sure.
        return
    await artifacts.keep(collected(artifacts.spool, a=b"two"))
    (found,) = await artifacts.fetch([kept], artifacts.spool.directory)
    assert found.read_bytes() == b"two"


async def test_a_slow_place_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setattr(contents, "PATIENCE", 0.2)
    artifacts = ArtifactContents("slow://x/y", tmp_path / "spool")
    one = Artifact(id="1", path="a", size=0, sha256=sha256(b"").hexdigest(), media_type="")
    began = time.monotonic()
    with pytest.raises(ArtifactsUnavailableError, match=r"can't be reached within 0\.2 s"):
        await artifacts.probe()
    with pytest.raises(ArtifactsUnavailableError, match=r"does not take the artifacts within 0\.2 s"):
        await artifacts.keep(collected(artifacts.spool, a=b""))
    with pytest.raises(ArtifactDamagedError):
        await artifacts.fetch([one], artifacts.spool.directory)
    assert time.monotonic() - began < 15
    artifacts.spool.close()


HANGS = """
import asyncio, time
from engine.store.contents import apart

async def main():
    try: await apart(lambda: time.sleep(3600), 0.1)
    except TimeoutError: print("left behind")

asyncio.run(main())
"""


def test_a_place_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "left behind\n"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://bucket", "Protocol not known: nonsense"),
        ("s3://bucket/path", "s3fs"),
        ("gs://bucket/path", "gcsfs"),
    ],
)
async def test_a_place_that_can_not_be_reached_says_why(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(ArtifactsUnavailableError, match=message):
        await ArtifactContents(url, tmp_path / "spool").probe()


async def test_a_directory_that_can_not_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    artifacts = ArtifactContents(str(tmp_path / "file"), tmp_path)
    files = collected(Spool(tmp_path / "other"), a=b"1")
    with pytest.raises(ArtifactsUnavailableError, match="Not a directory") as caught:
        await artifacts.keep(files)
    assert "can be written and has room" in (caught.value.fix or "")


LEAVES_BEHIND = """
import os, sys
from pathlib import Path
from engine.store.spool import Spool

made = Spool(Path(sys.argv[1])).directory()
(made / "half").write_text("written")
print(made, flush=True)
if sys.argv[2] == "die": os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAVES_BEHIND, str(tmp_path / "spool")]
    dead = subprocess.run([*command, "die"], capture_output=True, text=True, check=False)
    alive = subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert alive.stdout is not None
        of_the_living = Path(alive.stdout.readline().strip())
        assert not Path(dead.stdout.strip()).exists()
        mine = Spool(tmp_path / "spool")
        own = mine.directory()
        assert (of_the_living / "half").read_text() == "written"
        assert own.stat().st_mode & 0o777 == 0o700
        mine.close()
        assert not own.exists()
        assert (of_the_living / "half").exists()
    finally:
        alive.communicate("")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("table.csv", "text/csv"),
        ("a/b/Page.HTML", "text/html"),
        ("report.md", "text/markdown"),
        ("x.parquet", "application/vnd.apache.parquet"),
        ("scan.sarif", "application/sarif+json"),
        ("data.json", "application/json"),
        ("a.csv.gz", "application/gzip"),
        ("archive.tar.gz", "application/gzip"),
        ("unknown", "application/octet-stream"),
        (".md", "application/octet-stream"),
        ("-rf", "application/octet-stream"),
    ],
)
def test_the_type_is_by_the_name(path: str, expected: str) -> None:
    assert media_type(path) == expected


async def test_being_cancelled_leaves_no_thread_that_is_waited_for() -> None:
    task = asyncio.ensure_future(contents.apart(lambda: time.sleep(20), 30))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    task.cancel()
    await asyncio.wait({task})
    assert time.monotonic() - began < 10
