"""A command of an image by itself, through the service, as agents will ask for it."""

from pathlib import Path

import pytest

from engine.bootstrap import open_service
from engine.progress import NoObserver
from engine.service import ImageSnippet
from engine.snippets import InvalidSnippetError
from flows.errors import RefusedError
from flows.values import StepStatus
from scripts.docker_engine import BASE
from steps.sandbox.docker.endpoint import Endpoint


@pytest.fixture(autouse=True)
def home(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", endpoint.url)
    monkeypatch.setenv("STEPBOX_RUNNER", "docker")
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("command", "result"), [('echo "$INPUT_A"', "b"), (["echo", "$INPUT_A"], "$INPUT_A"), (["cat", "/work/none"], None)]
)
async def test_command_is_executed_and_gives_its_result(command: str | list[str], result: str | None) -> None:
    async with open_service() as service:
        outcome = await service.execute(ImageSnippet(image=BASE, command=command, inputs={"a": "b"}), NoObserver())
    assert (outcome.result, outcome.isolation) == (result, "container")
    assert outcome.status is (StepStatus.FAILED if result is None else StepStatus.SUCCEEDED)
    assert str(outcome.image).startswith(f"{BASE.partition(':')[0]}@sha256:")


async def test_what_can_not_be_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_service() as service:
        with pytest.raises(InvalidSnippetError, match="not the reference of an image"):
            await service.execute(ImageSnippet(image="A B"), NoObserver())
        with pytest.raises(InvalidSnippetError, match="there is no script"):
            await service.execute(ImageSnippet(image=BASE, command=" "), NoObserver())
    monkeypatch.setenv("STEPBOX_RUNNER", "nsjail")
    async with open_service() as service:
        with pytest.raises(RefusedError, match="needs a container"):
            await service.execute(ImageSnippet(image=BASE), NoObserver())
