"""The installed command with a Docker Engine that ends while a step runs, and comes back."""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import docker
import pytest

from scripts.docker_engine import EngineProcess
from steps.sandbox.docker.container import OWNER_LABEL
from tests.acceptance.conftest import Stepbox
from tests.engines import engine_with_guest
from tests.sandbox.runners import docker_endpoint

FLOW = {
    "flow": "survivor",
    "steps": [
        {
            "id": "work",
            "shell": """tool files.write '{"path": "begun", "content": "x"}' > /dev/null; sleep 3; echo done""",
            "tools": ["files.write"],
            "retry": {"attempts": 2, "delay": "8s", "jitter": False},
        }
    ],
    "output": "${{ steps.work.result }}",
}


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    client = docker.APIClient(docker_endpoint().url)
    with engine_with_guest(client) as made:
        client.close()
        yield made


def test_step_with_retry_outlives_a_restart_of_the_engine(stepbox: Stepbox, engine: EngineProcess) -> None:
    environment = {**stepbox.environment, "DOCKER_HOST": engine.host, "STEPBOX_RUNNER": "docker"}
    stepbox = replace(stepbox, environment=environment)
    process = stepbox.start("run", stepbox.flow("survivor", json.dumps(FLOW)), "--output", "json")
    begun = stepbox.directory / ".stepbox/shared/begun"
    deadline = time.monotonic() + 100
    while not begun.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.stop(signal.SIGKILL)
    engine.start()
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    document = json.loads(stdout)
    assert (document["status"], document["output"], document["error"]) == ("succeeded", "done", None)
    step = document["steps"]["work"]
    assert (step["attempts"], step["isolation"], step["error"]) == (2, "container", None)
    client = docker.APIClient(engine.host)
    left = client.containers(all=True, filters={"label": [OWNER_LABEL]})
    client.close()
    assert left == []
