"""Downloads write below their directory and nowhere else, and replace nothing unasked."""

import os
from pathlib import Path

import pytest

from engine.downloads import DownloadBlockedError, DownloadFailedError, save


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


def tree(directory: Path) -> dict[str, bytes | str | None]:
    return {
        str(path.relative_to(directory)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in directory.rglob("*")
    }


def test_files_are_written_by_their_paths(content: Path, out: Path) -> None:
    names = ["make/table.csv", "make/a/b/c", "-rf", "...", " ", "back\\slash"]
    assert save(dict.fromkeys(names, content), out, overwrite=False) == [out / name for name in names]
    assert {name for name, found in tree(out).items() if found == b"content"} == set(names)


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../up", "a//b", "", ".", "..", "a/.", "nul\0"])
def test_a_path_that_leads_elsewhere_is_refused(content: Path, out: Path, path: str) -> None:
    with pytest.raises(DownloadFailedError, match="is no path within a directory"):
        save({"good": content, path: content}, out, overwrite=True)
    assert not out.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_is_a_link_is_not_followed(content: Path, out: Path, tmp_path: Path, overwrite: bool) -> None:  # noqa: FBT001
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir(parents=True)
    (out / "make").symlink_to(elsewhere)
    with pytest.raises(DownloadBlockedError, match="a link, a file or a directory is in the way"):
        save({"make/x": content}, out, overwrite=overwrite)
    assert tree(elsewhere) == {}


def test_a_link_in_the_place_of_a_file_is_replaced_and_never_written_through(
    content: Path, out: Path, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    out.mkdir(parents=True)
    (out / "x").symlink_to(target)
    with pytest.raises(DownloadBlockedError, match="these are in the way"):
        save({"x": content}, out, overwrite=False)
    save({"x": content}, out, overwrite=True)
    assert (target.read_text(), (out / "x").is_symlink(), (out / "x").read_bytes()) == ("precious", False, b"content")


def test_a_dangling_link_is_in_the_way_too(content: Path, out: Path, tmp_path: Path) -> None:
    out.mkdir(parents=True)
    (out / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DownloadBlockedError):
        save({"x": content}, out, overwrite=False)
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_written_where_one_file_is_in_the_way(content: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "b").write_text("mine")
    with pytest.raises(DownloadBlockedError, match="--overwrite") as caught:
        save({"a": content, "b": content}, out, overwrite=False)
    assert str(out / "b") in str(caught.value)
    assert tree(out) == {"b": b"mine"}
    save({"a": content, "b": content}, out, overwrite=True)
    assert tree(out) == {"a": b"content", "b": b"content"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_in_the_place_of_a_file_stays(content: Path, out: Path, overwrite: bool) -> None:  # noqa: FBT001
    (out / "x").mkdir(parents=True)
    with pytest.raises(DownloadBlockedError):
        save({"x": content}, out, overwrite=overwrite)
    assert tree(out) == {"x": None}


def test_a_file_in_the_place_of_a_directory_stays(content: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "make").write_text("mine")
    with pytest.raises(DownloadBlockedError):
        save({"make/x": content}, out, overwrite=True)
    assert tree(out) == {"make": b"mine"}


def test_what_can_not_be_read_leaves_no_half_a_file(out: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailedError, match="No such file"):
        save({"x": tmp_path / "missing"}, out, overwrite=False)
    assert tree(out) == {}


def test_a_new_file_has_the_permissions_of_new_files(content: Path, out: Path) -> None:
    before = os.umask(0o027)
    try:
        save({"x": content}, out, overwrite=False)
    finally:
        os.umask(before)
    assert (out / "x").stat().st_mode & 0o777 == 0o640
