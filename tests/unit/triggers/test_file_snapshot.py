"""What is in a directory, and what has changed in it."""

import os
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.file.config import FilePattern, FileTrigger, check_file
from triggers.file.snapshot import Glob, Snapshot, Stamp, differences, scan

PATHS = ["a.csv", "b.txt", "in/c.csv", "in/deep/d.csv", ".hidden.csv", "in/.tmp/e.csv"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["a.csv", "b.txt"]),
        ("*.csv", ["a.csv"]),
        ("?.csv", ["a.csv"]),
        ("[ab].*", ["a.csv", "b.txt"]),
        ("**/*.csv", ["a.csv", "in/c.csv", "in/deep/d.csv"]),
        ("*/*.csv", ["in/c.csv"]),
        ("in/**", ["in/c.csv", "in/deep/d.csv"]),
        ("**", ["a.csv", "b.txt", "in/c.csv", "in/deep/d.csv"]),
        (".*.csv", [".hidden.csv"]),
        ("**/.tmp/*", ["in/.tmp/e.csv"]),
        ("nothing", []),
    ],
)
def test_a_pattern_means_paths_below(directory: Path, pattern: str, expected: list[str]) -> None:
    found = scan(directory, Glob(pattern))
    assert sorted(found.files) == expected
    assert found.unreadable == {}


def test_links_to_files_count_and_links_to_directories_are_not_entered(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.csv").write_text("123")
    (directory / "link.csv").symlink_to(outside / "secret.csv")
    (directory / "broken.csv").symlink_to(outside / "nothing")
    (directory / "loop").symlink_to(directory)
    (directory / "way_out").symlink_to(outside)
    os.mkfifo(directory / "pipe.csv")
    found = scan(directory, Glob("**/*.csv"))
    assert sorted(found.files) == ["a.csv", "in/c.csv", "in/deep/d.csv", "link.csv"]
    assert found.files["link.csv"].size == 3


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert scan(tmp_path / "none", Glob("*")) == Snapshot(unreadable={"": "No such file or directory"})
    (tmp_path / "file").write_text("x")
    assert scan(tmp_path / "file", Glob("*")).unreadable == {"": "Not a directory"}


def test_a_directory_that_can_not_be_read_is_named_and_the_rest_is_seen() -> None:
    with TemporaryDirectory() as name:
        directory, root = Path(name), os.geteuid() == 0
        directory.chmod(0o755)
        (directory / "closed").mkdir()
        (directory / "closed" / "in").touch()
        (directory / "closed").chmod(0o000)
        (directory / "open").touch()
        if root:
            # Root may read everything.
            os.seteuid(getpwnam("nobody").pw_uid)
        try:
            found = scan(directory, Glob("**"))
        finally:
            if root:
                os.seteuid(0)
            (directory / "closed").chmod(0o755)
    assert list(found.files) == ["open"]
    assert found.unreadable == {"closed": "Permission denied"}


def test_ten_thousand_files(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).mkdir()
        for other in range(100):
            (tmp_path / str(number) / f"{other}.csv").touch()
    found = scan(tmp_path, Glob("**/*.csv"))
    assert len(found.files) == 10_000
    (tmp_path / "5" / "5.csv").write_text("x")
    (change,) = differences(found, scan(tmp_path, Glob("**/*.csv")))
    assert (change.path, change.kind) == ("5/5.csv", "modified")
    assert Snapshot.read(found.document()) == found


STAMPS = st.builds(Stamp, st.integers(0, 3), st.integers(0, 3), st.integers(1, 2))
FILES = st.dictionaries(st.sampled_from(["a", "b", "c/d", "c/e", "c/f/g"]), STAMPS)


@given(FILES, FILES)
def test_differences_lead_from_one_to_the_other(before: dict[str, Stamp], after: dict[str, Stamp]) -> None:
    files = dict(before)
    for change in differences(Snapshot(files=before), Snapshot(files=after)):
        assert change.before == before.get(change.path)
        if change.stamp is None:
            assert change.kind == "deleted"
            del files[change.path]
        else:
            assert change.kind == ("modified" if change.path in before else "added")
            assert files.get(change.path) != change.stamp
            files[change.path] = change.stamp
    assert files == after


def test_the_oldest_file_comes_first() -> None:
    found = Snapshot(files={"new": Stamp(1, 30, 1), "old": Stamp(1, 10, 2), "b": Stamp(1, 20, 3), "a": Stamp(1, 20, 4)})
    assert [change.path for change in differences(Snapshot(), found)] == ["old", "a", "b", "new"]


@pytest.mark.parametrize(("unreadable", "expected"), [("c", ["a"]), ("c/f", ["a", "c/d"]), ("", [])])
def test_what_can_not_be_seen_is_not_gone(unreadable: str, expected: list[str]) -> None:
    known = Snapshot(files={path: Stamp(1, 1, 1) for path in ("a", "c/d", "c/f/g")})
    found = Snapshot(unreadable={unreadable: "Permission denied"})
    assert [change.path for change in differences(known, found)] == expected


@pytest.mark.parametrize(
    ("glob", "good"),
    [
        ("*", True),
        ("**/*.csv", True),
        ("[a-z]?.csv", True),
        ("a**b", False),
        ("", False),
        ("/x", False),
        ("../x", False),
    ],
)
def test_a_pattern_that_is_none_is_found(glob: str, good: bool) -> None:  # noqa: FBT001
    findings = list(check_file(FileTrigger(id="t", file=FilePattern(path="/data", glob=glob))))
    assert [finding.path for finding in findings] == ([] if good else [("file", "glob")])


@given(st.text("ab*?[]!-/.\\{}()+^$|", max_size=12))
def test_any_text_is_a_pattern_or_found(glob: str) -> None:
    if not list(check_file(FileTrigger(id="t", file=FilePattern(path="/data", glob=glob)))):
        Glob(glob).matches("a/b")


@pytest.mark.parametrize(
    ("glob", "archive", "fits"),
    [
        ("*.csv", "done", True),
        ("*.csv", "/elsewhere", True),
        ("*.csv", ".", False),
        ("*.csv", "../data", False),
        ("*.csv", "../data/done", True),
        ("**/*.csv", "done", False),
        ("**/*.csv", ".done", True),
        ("**/*.csv", "../done", True),
        ("**", "done", False),
        ("*/*.csv", "done", False),
        ("in/*.csv", "done", True),
        ("in/*.csv", "in/done", True),
        ("in/*.csv", "in", False),
        (".*/*.csv", ".done", False),
    ],
)
def test_an_archive_is_not_where_files_are_told_of(glob: str, archive: str, *, fits: bool) -> None:
    pattern = FilePattern.model_validate({"path": "/data", "glob": glob, "then": {"archive": archive}})
    findings = list(check_file(FileTrigger(id="t", file=pattern)))
    assert [one.path for one in findings] == ([] if fits else [("file", "then", "archive")])


def test_what_was_deleted_is_not_archived() -> None:
    pattern = FilePattern.model_validate({"path": "/data", "changes": ["deleted"], "then": {"archive": "done"}})
    assert [one.path for one in check_file(FileTrigger(id="t", file=pattern))] == [("file", "changes")]
