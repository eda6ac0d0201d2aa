import os
from pathlib import Path

import pytest

from engine.bootstrap import language
from engine.flow_sources import SiblingFlows, StoredFlows
from engine.language import UnreadableFileError
from engine.store import Store
from flows.errors import InvalidFlowError

CODE_FILE = "flow: filed\nsteps: [{id: a, python: {file: ./step.py}}]"


def test_code_is_read_from_beside_the_flow(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("return 1")
    (tmp_path / "filed.yaml").write_text(CODE_FILE)
    definition = language().load_file(tmp_path / "filed.yaml")
    assert list(definition.files.values()) == ["return 1"]


@pytest.mark.parametrize("file", ["../step.py", "/etc/passwd", "link.py"])
def test_code_is_not_read_from_elsewhere(tmp_path: Path, file: str) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (tmp_path / "step.py").write_text("return 1")
    (flows / "link.py").symlink_to(tmp_path / "step.py")
    with pytest.raises(InvalidFlowError):
        language().load_text(CODE_FILE.replace("./step.py", file), path="f.yaml", directory=flows)


def test_a_flow_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="No such file"):
        language().load_file(tmp_path / "absent.yaml")


@pytest.mark.timeout(20)
def test_what_is_not_a_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(UnreadableFileError, match=r"regular file|directory"):
            language().load_file(path)
    os.mkfifo(tmp_path / "step.py")
    with pytest.raises(InvalidFlowError, match="regular file"):
        language().load_text(CODE_FILE, path="f.yaml", directory=tmp_path)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    for name in ("step.py", "large.yaml"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(200_000_000_000)
    with pytest.raises(InvalidFlowError, match="larger than 1,000,000 bytes"):
        language().load_file(tmp_path / "large.yaml")
    with pytest.raises(InvalidFlowError, match="larger than 1,000,000 bytes"):
        language().load_text(CODE_FILE, path="f.yaml", directory=tmp_path)


async def test_subflows_are_found_beside_the_flow_and_then_in_the_store(tmp_path: Path) -> None:
    text = "flow: NAME\nsteps: [{id: a, python: {file: ./step.py}}]"
    (tmp_path / "step.py").write_text("return 'sibling'")
    (tmp_path / "near.yaml").write_text(text.replace("NAME", "near"))
    async with await Store.open(f"sqlite:///{tmp_path}/test.db") as store:
        for name in ("near", "far"):
            stored = text.replace("NAME", name)
            await store.flows.put_version("default", name, stored, {"step.py": "return 'stored'"}, name)
        flows = SiblingFlows(tmp_path, language(), StoredFlows(store, language(), "default"))
        near, far = await flows.find("near"), await flows.find("far")
        assert near is not None
        assert far is not None
        assert list(near.files.values()) == ["return 'sibling'"]
        assert list(far.files.values()) == ["return 'stored'"]
        assert await flows.find("absent") is None
        assert await flows.find("../near") is None
