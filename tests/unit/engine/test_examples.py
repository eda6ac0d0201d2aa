from pathlib import Path

import pytest

from engine.examples import BlockedExampleError, UnknownExampleError, copy_example, example_folder, library


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder as the library has them: a flow, code, data in folders."""
    folder = tmp_path / "library" / "report"
    (folder / "data" / "more").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    for name in ("report.yaml", "report.py", "data/a.csv", "data/more/b.csv", "__pycache__/report.cpython-311.pyc"):
        (folder / name).write_text(f"of the library: {name}")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The user's directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


FILES = tuple(map(Path, ("report.yaml", "data/a.csv", "data/more/b.csv", "report.py")))


def test_an_example_is_copied_with_its_folders(example: Path, here: Path) -> None:
    copied = copy_example(example, here)
    assert (copied.copied, copied.kept) == (FILES, ())
    assert sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file()) == sorted(FILES)
    assert all((here / path).read_bytes() == (example / path).read_bytes() for path in FILES)


def test_what_is_there_stays_and_is_named_where_it_differs(example: Path, here: Path) -> None:
    copy_example(example, here)
    (here / "data" / "a.csv").write_text("mine")
    (here / "report.py").unlink()
    again = copy_example(example, here)
    assert (again.copied, again.kept) == ((FILES[0], FILES[2], FILES[3]), (FILES[1],))
    assert (here / "data" / "a.csv").read_text() == "mine"
    assert (here / "report.py").is_file()


def test_nothing_is_written_through_a_link(example: Path, here: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.py"
    (here / "report.py").symlink_to(target)
    with pytest.raises(BlockedExampleError, match=r"report\.py is no file"):
        copy_example(example, here)
    assert not target.exists()
    target.write_text("mine")
    assert copy_example(example, here).kept == (Path("report.py"),)
    assert target.read_text() == "mine"


def test_something_in_the_way_is_named(example: Path, here: Path) -> None:
    (here / "report.yaml").mkdir()
    with pytest.raises(BlockedExampleError, match=r"report\.yaml is no file"):
        copy_example(example, here)
    (here / "report.yaml").rmdir()
    (here / "data").write_text("a file")
    with pytest.raises(BlockedExampleError, match="data is no folder"):
        copy_example(example, here)
    (here / "data").unlink()
    (here / "data").mkdir()
    (here / "data" / "more").write_text("a file")
    with pytest.raises(BlockedExampleError, match="more is no folder"):
        copy_example(example, here)


def test_an_unknown_example_names_those_there_are() -> None:
    assert example_folder("flight_weather") == library()["flight_weather"]
    with pytest.raises(UnknownExampleError) as caught:
        example_folder("flight")
    assert "flight_weather" in str(caught.value.fix)
