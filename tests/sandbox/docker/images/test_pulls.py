"""Images of steps come from a real registry, by the ordinary credentials of Docker."""

import asyncio
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from flows.errors import RefusedError
from scripts.docker_engine import BASE
from steps.sandbox.image_executor import ImageExecutor
from tests.sandbox.conftest import until
from tests.sandbox.docker.images.conftest import Build, Call, RunImage, busybox, step
from tests.sandbox.docker.images.registry import PASSWORD, USER, Registry, running_registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's settings of Docker are."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def small(build: Build) -> Callable[[str], str]:
    """Builds an image that is pushed and pulled in no time, with a shell."""
    return lambda lines: build(f"COPY sh /bin/sh\n{lines}", {"sh": busybox()}, base="scratch")


@pytest.fixture
def registry(tmp_path: Path, client: docker.APIClient, small: Callable[[str], str], home: Path) -> Iterator[Registry]:
    with running_registry(tmp_path, client, small, private=False) as running:
        yield running


@pytest.fixture
def private(tmp_path: Path, client: docker.APIClient, small: Callable[[str], str], home: Path) -> Iterator[Registry]:
    with running_registry(tmp_path, client, small, private=True) as running:
        yield running


def said(call: Call) -> list[str]:
    return [line for stream, line in call.lines if stream == "stderr"]


async def test_missing_image_is_pulled_once_and_told(run_image: RunImage, registry: Registry) -> None:
    digest = registry.push()
    call = Call()
    outcome = await run_image(registry.reference, run="echo $V", call=call)
    assert (outcome.result, outcome.error) == ("1", None)
    assert outcome.image == f"{registry.name}@{digest}"
    first, last = said(call)
    assert first == f"pulling {registry.reference}"
    assert last.startswith(f"pulled {registry.reference} in ")
    assert outcome.stderr == ""
    again = Call()
    await run_image(registry.reference, run="true", call=again)
    assert said(again) == []


async def test_digest_is_recorded_even_when_the_tag_moves(run_image: RunImage, registry: Registry) -> None:
    reference, name = registry.reference, registry.name
    old = registry.push("ENV V=old")
    first = await run_image(reference, run="echo $V")
    # Pushed by another machine, so to speak: this Engine keeps what it has.
    new = registry.push("ENV V=new")
    moved = await run_image(reference, run="echo $V", pull="always", call=Call(run_id="next"))
    pinned = await run_image(f"{name}@{old}", run="echo $V")
    assert [(each.result, each.image) for each in (first, moved, pinned)] == [
        ("old", f"{name}@{old}"),
        ("new", f"{name}@{new}"),
        ("old", f"{name}@{old}"),
    ]


@pytest.mark.parametrize("tag", ["", ":1"])
async def test_image_is_pulled_by_digest(run_image: RunImage, registry: Registry, tag: str) -> None:
    digest = registry.push()
    outcome = await run_image(f"{registry.name}{tag}@{digest}", run="echo $V")
    assert (outcome.result, outcome.image) == ("1", f"{registry.name}@{digest}")


async def test_always_pulls_once_a_run(run_image: RunImage, registry: Registry) -> None:
    registry.push()
    calls = [Call(run_id=run) for run in ("one", "one", "two")]
    for call in calls:
        await run_image(registry.reference, run="true", pull="always", call=call)
    assert [len(said(call)) for call in calls] == [2, 0, 2]


async def test_steps_that_need_one_image_share_its_pull(run_image: RunImage, registry: Registry) -> None:
    registry.push()
    calls = [Call() for _ in range(3)]
    await asyncio.gather(*(run_image(registry.reference, run="true", call=call) for call in calls))
    told = [line for call in calls for line in said(call)]
    assert told.count(f"pulling {registry.reference}") == 1
    assert len([line for line in told if line.startswith("pulled")]) == 1


async def test_step_that_waits_for_anothers_pull_says_so(run_image: RunImage, executor: ImageExecutor) -> None:
    assert executor._containers is not None
    lock = executor._containers.images._locks[BASE]
    await lock.acquire()
    call = Call()
    running = asyncio.ensure_future(run_image(run="echo on", call=call))
    await until(lambda: said(call))
    lock.release()
    assert (await running).result == "on"
    assert said(call) == [f"waiting for {BASE}, which another step pulls"]


async def test_never_refuses_before_anything_runs(executor: ImageExecutor, registry: Registry) -> None:
    refused = await executor.refusal(step(registry.reference, run="true", pull="never"))
    assert refused is not None
    assert refused.code == "image_unusable"
    assert await executor.refusal(step(BASE, run="true", pull="never")) is None


async def test_private_image_is_pulled_with_what_docker_login_left(
    run_image: RunImage, private: Registry, home: Path
) -> None:
    private.push()
    with pytest.raises(RefusedError, match=r"no basic auth credentials|unauthorized") as caught:
        await run_image(private.reference, run="true")
    assert caught.value.code == "image_pull_failed"
    assert "`docker login`" in str(caught.value.fix)
    private.login(home)
    assert (await run_image(private.reference, run="echo $V")).result == "1"


async def test_private_image_is_pulled_by_a_credential_helper(
    run_image: RunImage, private: Registry, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.push()
    helper = home / "docker-credential-test"
    answer = f'{{"ServerURL": "{private.address}", "Username": "{USER}", "Secret": "{PASSWORD}"}}'
    helper.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    (home / "config.json").write_text(f'{{"credHelpers": {{"{private.address}": "test"}}}}')
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    assert (await run_image(private.reference, run="echo $V")).result == "1"


async def test_missing_credential_helper_is_named(run_image: RunImage, private: Registry, home: Path) -> None:
    (home / "config.json").write_text(f'{{"credHelpers": {{"{private.address}": "absent"}}}}')
    with pytest.raises(RefusedError, match="absent") as caught:
        await run_image(private.reference, run="true")
    assert caught.value.code == "image_pull_failed"
    assert "credential helpers" in str(caught.value.fix)


@pytest.mark.parametrize("tag", ["1", "other"])
async def test_image_that_does_not_exist_is_told(run_image: RunImage, registry: Registry, tag: str) -> None:
    if tag == "other":
        registry.push()
    with pytest.raises(RefusedError, match=r"not found|manifest unknown") as caught:
        await run_image(f"{registry.name}:{tag}", run="true")
    assert (caught.value.code, caught.value.fix) == ("image_pull_failed", "check the name and the tag")


@pytest.mark.usefixtures("home")
async def test_registry_that_does_not_answer_is_told(run_image: RunImage) -> None:
    with pytest.raises(RefusedError, match="connection refused") as caught:
        await run_image("127.0.0.1:1/team/image:1", run="true")
    assert caught.value.code == "image_pull_failed"
    assert "network" in str(caught.value.fix)
