"""A service that is killed after it has kept a file's event, and before the file was moved into the archive."""

import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.crashes import TOKEN, Services

DEADLINE = 60.0
FLOW = """\
flow: inbox
inputs: {path: {type: string}}
triggers:
  - id: files
    file: {path: "INBOX", glob: "*.csv", settle: 50ms, then: {archive: "ARCHIVE"}}
    with: {path: "${{ event.path }}"}
steps:
  - {id: one, tool: workspace.search_tasks, with: {limit: 1}}
output: ${{ inputs.path }}
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system."""
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    if directory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.fail("/dev/shm is no file system of its own here")
    yield directory
    shutil.rmtree(directory)


def until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := _quietly(true)):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def has_looked(database: Path) -> bool:
    """Whether the state of the directory was kept, so that what comes from now on is told of."""
    with closing(sqlite3.connect(database)) as connection:
        return bool(connection.execute("SELECT 1 FROM trigger_state").fetchall())


def _quietly(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except httpx.TransportError:
        return None


@pytest.mark.timeout(300)
def test_a_kill_before_the_move_neither_loses_the_file_nor_runs_it_twice(tmp_path: Path, elsewhere: Path) -> None:
    inbox, archive, done = tmp_path / "inbox", tmp_path / "archive", tmp_path / "done"
    inbox.mkdir()
    done.mkdir()
    archive.symlink_to(elsewhere)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        Services(tmp_path, {"STEPBOX_HOME": str(tmp_path / "home")}) as services,
        httpx.Client(base_url=f"http://127.0.0.1:{services.port}/api/v1", headers=headers, timeout=DEADLINE) as client,
    ):

        def items(path: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get(path).raise_for_status().json()["items"]
            return found

        services.start()
        until(lambda: client.get("/runs").is_success)
        text = FLOW.replace("INBOX", str(inbox)).replace("ARCHIVE", str(archive))
        client.put("/flows/inbox", json={"text": text}).raise_for_status()
        until(lambda: has_looked(tmp_path / "home" / "stepbox.db"))
        (inbox / "a.csv").write_text("1")
        (event,) = until(lambda: items("/events"))
        assert event["deliveries"][0]["status"] == "pending"
        until(lambda: "can't be moved" in services.log.read_text())
        assert services.end(signal.SIGKILL) == -signal.SIGKILL
        assert (inbox / "a.csv").read_text() == "1"
        archive.unlink()
        archive.symlink_to(done)
        services.start()
        (run,) = until(lambda: [one for one in items("/runs") if one["status"] == "succeeded"])
        assert client.get(f"/runs/{run['run_id']}").json()["output"] == str(archive / "a.csv")
        assert ((done / "a.csv").read_text(), list(inbox.iterdir())) == ("1", [])
        assert services.end(signal.SIGKILL) == -signal.SIGKILL
        services.start()
        until(lambda: items("/runs"))
        (inbox / "b.csv").write_text("2")
        until(lambda: len([one for one in items("/runs") if one["status"] == "succeeded"]) == 2)
        assert len(items("/events")) == len(items("/runs")) == 2
        assert services.end(signal.SIGTERM) == 0
