import base64
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from steps.tools.catalogue import BUILT_IN, ToolCatalogue
from steps.tools.contract import (
    AlreadyExistsError,
    InvalidArgumentsError,
    NotFoundError,
    NotGrantedError,
    TooLargeError,
    ToolContext,
)

CATALOGUE = ToolCatalogue([])


async def call(context: ToolContext, tool: str, **arguments: Any) -> Any:
    name = f"files.{tool}"
    result = await CATALOGUE.call(name, arguments, context)
    Draft202012Validator(BUILT_IN[name].spec.result).validate(result)
    json.dumps(result, allow_nan=False)
    return result


@pytest.fixture
def shared(context: ToolContext) -> Path:
    return Path(context.services.shared)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "..", "a\\..\\b", "a\0b", "a/", ".part-x"]
)
async def test_a_path_that_could_leave_the_root_is_refused(context: ToolContext, shared: Path, path: str) -> None:
    with pytest.raises(InvalidArgumentsError):
        await call(context, "read", path=path)
    with pytest.raises(InvalidArgumentsError):
        await call(context, "write", path=path, content="x")
    assert names(shared) == []


async def test_a_link_out_of_the_root_is_refused_and_not_listed(
    context: ToolContext, shared: Path, tmp_path: Path
) -> None:
    await call(context, "write", path="a.txt", content="x")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    (shared / "out").symlink_to(secret)
    (shared / "key").symlink_to(secret / "key")
    (shared / "loop").symlink_to(shared)
    for path in ("out/key", "key"):
        with pytest.raises(NotGrantedError):
            await call(context, "read", path=path)
        with pytest.raises(NotGrantedError):
            await call(context, "write", path=path, content="x")
    with pytest.raises(NotGrantedError):
        await call(context, "list", path="out")
    assert (secret / "key").read_text() == "s3cret"
    assert [entry["path"] for entry in await call(context, "list", recursive=True)] == ["a.txt", "loop"]


async def test_what_is_not_there_says_so(context: ToolContext) -> None:
    assert await call(context, "list") == []
    with pytest.raises(NotFoundError):
        await call(context, "read", path="a.txt")
    with pytest.raises(NotFoundError):
        await call(context, "list", path="a")
    await call(context, "write", path="a/b.txt", content="x")
    for tool, path in (("read", "a"), ("list", "a/b.txt")):
        with pytest.raises(NotFoundError):
            await call(context, tool, path=path)


async def test_a_file_and_a_directory_do_not_replace_each_other(context: ToolContext) -> None:
    await call(context, "write", path="a/b.txt", content="x")
    with pytest.raises(InvalidArgumentsError, match="is a directory"):
        await call(context, "write", path="a", content="x")
    with pytest.raises(InvalidArgumentsError, match="is a file"):
        await call(context, "write", path="a/b.txt/c", content="x")
    assert (await call(context, "read", path="a/b.txt"))["content"] == "x"


async def test_a_file_is_replaced_unless_told_not_to(context: ToolContext, shared: Path) -> None:
    await call(context, "write", path="a.txt", content="old")
    with pytest.raises(AlreadyExistsError):
        await call(context, "write", path="a.txt", content="new", overwrite=False)
    assert (await call(context, "read", path="a.txt"))["content"] == "old"
    assert await call(context, "write", path="a.txt", content="new!") == {"path": "a.txt", "size": 4}
    assert names(shared) == ["a.txt"]


async def test_text_and_bytes_come_back_as_they_were(context: ToolContext) -> None:
    await call(context, "write", path="text", content="Grüße\0")
    assert (await call(context, "read", path="text"))["encoding"] == "base64"
    await call(context, "write", path="text", content="Grüße")
    assert await call(context, "read", path="text") == {
        "path": "text",
        "size": 7,
        "content": "Grüße",
        "encoding": "text",
    }
    data = base64.b64encode(bytes(range(256))).decode()
    await call(context, "write", path="data", content=data, encoding="base64")
    assert (await call(context, "read", path="data"))["content"] == data
    with pytest.raises(InvalidArgumentsError, match="UTF-8"):
        await call(context, "read", path="data", encoding="text")
    with pytest.raises(InvalidArgumentsError, match="base64"):
        await call(context, "write", path="data", content="?", encoding="base64")
    with pytest.raises(InvalidArgumentsError, match="surrogate"):
        await call(context, "write", path="data", content="\ud800")


async def test_what_is_too_large_is_refused(context: ToolContext, shared: Path) -> None:
    with pytest.raises(TooLargeError):
        await call(context, "write", path="big", content="x" * 10_000_001)
    await call(context, "write", path="big", content="x" * 1_000_000)
    assert (await call(context, "read", path="big"))["size"] == 1_000_000
    await call(context, "write", path="big", content="x" * 1_000_001)
    with pytest.raises(TooLargeError):
        await call(context, "read", path="big")
    for number in range(1001):
        (shared / f"{number}").touch()
    with pytest.raises(TooLargeError, match="1000"):
        await call(context, "list")


async def test_a_listing_says_what_there_is(context: ToolContext) -> None:
    for path in ("b.txt", "a/x.txt", "a/deep/y.txt"):
        await call(context, "write", path=path, content="abc")
    top = await call(context, "list")
    assert [(entry["path"], entry["kind"], entry["size"]) for entry in top] == [
        ("a", "directory", 0),
        ("b.txt", "file", 3),
    ]
    assert [entry["path"] for entry in await call(context, "list", path="a")] == ["a/deep", "a/x.txt"]
    everything = [entry["path"] for entry in await call(context, "list", recursive=True)]
    assert everything == ["a", "a/deep", "a/deep/y.txt", "a/x.txt", "b.txt"]
