"""What the host makes of artifacts, whatever a guest may say of them."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.contracts import WorkFile
from flows.values import StepStatus
from steps.sandbox.artifacts import MAX_TOLD, bring, collect, misfit
from steps.sandbox.guest import framing
from steps.sandbox.limits import MAX_ARTIFACTS, Limits
from tests.artifacts import content_of

LIMIT = 100
Frame = tuple[dict[str, Any], bytes]
PATHS = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"a/b", b"..", b"../x", b"/x", b"a/../b", b"\xff", b"a\nb", b"a" * 1025, b"d/" * 21 + b"x"]
    ),
    st.binary(min_size=1, max_size=6),
)
NUMBERS = st.integers(-1, 3)
FRAMES = st.lists(
    st.one_of(
        st.tuples(st.builds(lambda size: {"kind": "artifact", "size": size}, st.integers(0, 60)), PATHS),
        st.tuples(st.builds(lambda n: {"kind": "content", "artifact": n}, NUMBERS), st.binary(min_size=1, max_size=40)),
        st.tuples(st.builds(lambda n: {"kind": "complete", "artifact": n}, NUMBERS), st.just(b"")),
        st.tuples(st.sampled_from([{"kind": "omitted", "why": why} for why in ("name", "fifo", "?")]), PATHS),
        st.tuples(st.just({"kind": "beyond", "limit": "bytes", "size": 5}), PATHS),
        st.tuples(st.just({"kind": "collected", "omitted": 0}), st.just(b"")),
    ),
    max_size=14,
)


@st.composite
def honest(draw: st.DrawFn) -> list[Frame]:
    """What a guest says that tells the truth."""
    files = draw(st.dictionaries(st.sampled_from([b"a", b"b/c", b"b/d", b"-e"]), st.binary(max_size=25), max_size=4))
    frames: list[Frame] = [({"kind": "artifact", "size": len(data)}, path) for path, data in files.items()]
    for number, data in enumerate(files.values()):
        frames += [({"kind": "content", "artifact": number}, data[at : at + 7]) for at in range(0, len(data), 7)]
        frames.append(({"kind": "complete", "artifact": number}, b""))
    return [*frames, ({"kind": "collected", "omitted": 0}, b"")]


def reader(frames: list[Frame]) -> asyncio.StreamReader:
    stream = asyncio.StreamReader()
    for header, payload in frames:
        head = json.dumps(header).encode()
        stream.feed_data(len(head).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + head + payload)
    stream.feed_eof()
    return stream


@settings(max_examples=300)
@given(st.one_of(FRAMES, honest().flatmap(st.permutations), honest()))
async def test_whatever_is_said_nothing_is_written_elsewhere_or_beyond_the_limit(frames: list[Frame]) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder) / "place"

        def make() -> Path:
            place.mkdir()
            return place

        collected = await collect(reader(frames), Limits(artifacts=LIMIT), make)
        kept = {file.path: content_of(file) for file in collected.files}
        assert all(path.parent == place and path.name.isdigit() for path in every(Path(folder)))
        assert sum(map(len, kept.values())) <= LIMIT
        assert all(file.content.parent == place for file in collected.files)
        assert collected.error is None or kept == {}
        for path in kept:
            assert not path.startswith("/")
            assert {"", ".", ".."}.isdisjoint(path.split("/"))
            assert path.isprintable() or not any(letter < " " for letter in path)


def every(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@given(honest())
async def test_what_is_honest_is_kept(frames: list[Frame]) -> None:
    with TemporaryDirectory() as folder:
        collected = await collect(reader(frames), Limits(artifacts=LIMIT), lambda: Path(folder))
        assert collected.error is None
        assert collected.notes == ()
        sizes = {payload.decode(): header["size"] for header, payload in frames if header["kind"] == "artifact"}
        assert {file.path: len(content_of(file)) for file in collected.files} == sizes


@pytest.mark.parametrize("count", [MAX_TOLD, MAX_TOLD + 1])
async def test_only_so_many_are_named(count: int, tmp_path: Path) -> None:
    frames: list[Frame] = [({"kind": "omitted", "why": "fifo"}, b"x")] * count
    collected = await collect(
        reader([*frames, ({"kind": "collected", "omitted": count}, b"")]), Limits(), lambda: tmp_path
    )
    if count > MAX_TOLD:
        assert collected.error is not None
        assert collected.error[1].code == "channel_violation"
    else:
        assert (collected.error, len(collected.notes)) == (None, MAX_TOLD)


async def test_each_limit_holds_at_its_edge(tmp_path: Path) -> None:
    def many(count: int) -> list[Frame]:
        announced: list[Frame] = [({"kind": "artifact", "size": 0}, str(number).encode()) for number in range(count)]
        done: list[Frame] = [({"kind": "complete", "artifact": number}, b"") for number in range(count)]
        return [*announced, *done, ({"kind": "collected", "omitted": 0}, b"")]

    (tmp_path / "fits").mkdir()
    fits = await collect(reader(many(MAX_ARTIFACTS)), Limits(), lambda: tmp_path / "fits")
    assert (fits.error, len(fits.files)) == (None, MAX_ARTIFACTS)
    beyond = await collect(reader(many(MAX_ARTIFACTS + 1)), Limits(), lambda: tmp_path)
    assert beyond.error is not None
    assert (beyond.error[0], beyond.error[1].code) == (StepStatus.LIMIT_EXCEEDED, "too_many_artifacts")


@pytest.mark.parametrize(
    ("sizes", "limits", "code"),
    [
        ([8192], Limits(disk=8192, memory=8192), None),
        ([8193], Limits(disk=8192, memory=99999), "files_too_large"),
        ([1, 1, 1], Limits(disk=8192, memory=99999), "files_too_large"),
        ([8192], Limits(disk=99999, memory=8191), "files_too_large"),
        ([0] * 15_999, Limits(), None),
        ([0] * 16_000, Limits(), "too_many_files"),
    ],
)
def test_files_fit_or_not(sizes: list[int], limits: Limits, code: str | None) -> None:
    files = [WorkFile(path=f"a/{number}", size=size, content=Path()) for number, size in enumerate(sizes)]
    error = misfit(files, limits)
    assert (None if error is None else error.code) == code


class Line:
    """A line whose other end keeps what comes."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        framing.encode(header, payload)
        self.frames.append((header, payload))

    async def drain(self) -> None:
        await asyncio.sleep(0)


async def test_files_are_sent_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    (tmp_path / "empty").touch()
    line = Line()
    files = [
        WorkFile(path="a/x/big", size=3_000_000, content=tmp_path / "big"),
        WorkFile(path="b/empty", size=0, content=tmp_path / "empty"),
    ]
    await bring(files, line)
    assert [(header["kind"], payload) for header, payload in line.frames if header["kind"] != "content"] == [
        *(("folder", b"a"), ("folder", b"b"), ("file", b"a/x/big"), ("file", b"b/empty")),
    ]
    pieces = [payload for header, payload in line.frames if header["kind"] == "content"]
    assert (b"".join(pieces), max(map(len, pieces))) == (bytes(3_000_000), 262_144)


async def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12")
    with pytest.raises(OSError, match="shorter than it was"):
        await bring([WorkFile(path="a/x", size=3, content=tmp_path / "x")], Line())
