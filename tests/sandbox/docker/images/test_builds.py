"""``image.build`` against a real Engine: what a Dockerfile that nobody has reviewed may do, and what it may not."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from flows.errors import StepboxError
from flows.values import Json
from scripts.docker_engine import BASE
from steps.sandbox.docker import builds, guest
from steps.sandbox.docker.endpoint import Endpoint
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import ToolContext, ToolServices
from tests.sandbox.conftest import until
from tests.sandbox.docker.images.conftest import Build, RunImage
from tests.unit.steps.tools.memory import MemoryContent

BuildByTool = Callable[..., Awaitable[Any]]


@pytest.fixture
def tag() -> str:
    return f"stepbox-test:{uuid4().hex[:12]}"


@pytest.fixture
async def by_tool(endpoint: Endpoint, client: docker.APIClient, tag: str, tmp_path: Path) -> AsyncIterator[BuildByTool]:
    """Builds by the tool on the base that the Engine has; no container of it is left, whatever becomes of it."""
    catalogue = ToolCatalogue(())
    before = containers_of(client)

    async def call(
        lines: str, *, workspace: str = "default", host: str = endpoint.url, runtime: str | None = None, **more: Json
    ) -> Json:
        services = ToolServices(
            content=MemoryContent(), shared=str(tmp_path), docker={"DOCKER_HOST": host}, runtime=runtime
        )
        context = ToolContext(
            services=services, workspace=workspace, run_id="run", step_id="step", idempotency_key="key"
        )
        arguments = {"tag": tag, "dockerfile": f"FROM {BASE}\n{lines}\n", "pull": "never", **more}
        return await catalogue.call("image.build", arguments, context)

    yield call
    await until(lambda: containers_of(client) <= before)
    if exists(client, tag):
        client.remove_image(tag, force=True)


def containers_of(client: docker.APIClient) -> set[str]:
    return {each["Id"] for each in client.containers(all=True) if each["State"] != "removing"}


def exists(client: docker.APIClient, image: str) -> bool:
    try:
        client.inspect_image(image)  # type: ignore[no-untyped-call]
    except docker.errors.ImageNotFound:
        return False
    return True


async def refusal(building: Awaitable[Json], code: str) -> StepboxError:
    with pytest.raises(StepboxError) as refused:
        await building
    assert refused.value.code == code, refused.value
    assert refused.value.fix
    return refused.value


async def test_an_image_is_built_that_a_step_can_run(
    by_tool: BuildByTool, client: docker.APIClient, run_image: RunImage, tag: str
) -> None:
    built = await by_tool(
        'ARG WORD=none\nENV WORD=$WORD\nCOPY a/b.txt raw /data/\nCOPY say /bin/say\nRUN /bin/say\nCMD ["/bin/say"]',
        files={
            "a/b.txt": "text",
            "raw": {"content": base64.b64encode(b"\xff\0").decode(), "encoding": "base64"},
            "say": {"content": "#!/bin/sh\necho $WORD $(cat /data/b.txt) $(wc -c < /data/raw)\n", "executable": True},
        },
        args={"WORD": "hello"},
    )
    found = client.inspect_image(tag)  # type: ignore[no-untyped-call]
    assert (built["image"], built["id"], built["size"]) == (tag, found["Id"], found["Size"])
    assert "hello text 2" in built["log"]
    assert found["Config"]["Labels"] == {
        builds.WORKSPACE_LABEL: "default",
        builds.RUN_LABEL: "run",
        builds.TAG_LABEL: tag,
    }
    ran = await run_image(tag, pull="never")
    assert ran.result == "hello text 2"


async def test_a_stage_is_built_alone(by_tool: BuildByTool, client: docker.APIClient) -> None:
    lines = f"FROM {BASE} AS one\nRUN echo one > /one\nFROM one AS two\nRUN exit 7\n"
    assert "Step" in (await by_tool("", dockerfile=lines, target="one"))["log"]
    failed = await refusal(by_tool("", dockerfile=lines), "image_build_failed")
    assert "line 4 (`RUN exit 7`)" in failed.message
    await refusal(by_tool("", dockerfile=lines, target="three"), "image_build_failed")


async def test_a_build_that_fails_says_where_and_what_was_printed(
    by_tool: BuildByTool, client: docker.APIClient, tag: str
) -> None:
    failed = await refusal(by_tool("# why\nRUN printf '\\033[31mred\\033[0m\\n'; exit 3"), "image_build_failed")
    assert "line 3 (`RUN printf" in failed.message
    assert "returned a non-zero code: 3" in failed.message
    assert "\nred\n" in failed.message
    assert "\033" not in failed.message
    assert not exists(client, tag)
    missing = await refusal(by_tool("COPY absent /absent"), "image_build_failed")
    assert "line 2 (`COPY absent /absent`)" in missing.message


async def test_what_is_printed_is_kept_from_its_end(by_tool: BuildByTool) -> None:
    built = await by_tool("RUN seq 100000")
    assert len(built["log"]) <= builds.MAX_LOG
    assert "\n100000\n" in built["log"]


async def test_no_tag_of_another_is_taken(
    by_tool: BuildByTool, build: Build, client: docker.APIClient, tag: str
) -> None:
    build(tag=tag)
    before = client.inspect_image(tag)["Id"]  # type: ignore[no-untyped-call]
    for more in ({}, {"workspace": "other"}):
        await refusal(by_tool("RUN echo mine", **more), "already_exists")
    assert client.inspect_image(tag)["Id"] == before  # type: ignore[no-untyped-call]


async def test_a_tag_of_ones_own_is_moved_and_no_other(
    by_tool: BuildByTool, build: Build, client: docker.APIClient, tag: str
) -> None:
    first = await by_tool("RUN echo first > /word")
    assert (await by_tool("RUN echo first > /word"))["id"] == first["id"]
    assert (await by_tool("RUN echo second > /word"))["id"] != first["id"]
    await refusal(by_tool("", workspace="other"), "already_exists")
    # What others make of it has its labels, and is theirs.
    derived = build("RUN echo theirs > /word", base=tag)
    await refusal(by_tool("", tag=derived), "already_exists")


@pytest.mark.parametrize("name", [guest.NAME, f"docker.io/library/{guest.NAME}", f"localhost:5000/{guest.NAME}"])
async def test_the_image_of_sandboxes_is_not_built_so(
    by_tool: BuildByTool, client: docker.APIClient, name: str
) -> None:
    await refusal(by_tool("", tag=f"{name}:new"), "invalid_arguments")
    assert not exists(client, f"{name}:new")


@pytest.mark.parametrize(
    "lines", ["LABEL stepbox.guest=1", "LABEL stepbox.owner=1", 'LABEL "stepbox.x"="1" other=2', "LABEL stepbox.y 1"]
)
async def test_labels_of_stepbox_are_not_given(
    by_tool: BuildByTool, client: docker.APIClient, tag: str, lines: str
) -> None:
    failed = await refusal(by_tool(lines), "image_build_failed")
    assert "Stepbox's own" in failed.message
    assert not exists(client, tag)


async def test_labels_that_say_whose_it_is_do_not_come_from_the_dockerfile(
    by_tool: BuildByTool, client: docker.APIClient, tag: str
) -> None:
    await by_tool(f"LABEL {builds.WORKSPACE_LABEL}=other {builds.RUN_LABEL}=x")
    labels = client.inspect_image(tag)["Config"]["Labels"]  # type: ignore[no-untyped-call]
    assert (labels[builds.WORKSPACE_LABEL], labels[builds.RUN_LABEL]) == ("default", "run")


async def test_commands_have_no_network(by_tool: BuildByTool) -> None:
    built = await by_tool("RUN ls /sys/class/net; grep -c : /proc/net/dev")
    assert "\nlo\n1\n" in built["log"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("RUN --mount=type=bind,source=/,target=/host ls /host", "mount"),
        ("RUN --network=host true", "network"),
        ("RUN --security=insecure true", "security"),
    ],
)
async def test_options_that_open_the_host_are_refused(by_tool: BuildByTool, lines: str, said: str) -> None:
    assert said in (await refusal(by_tool(lines), "image_build_failed")).message


async def test_memory_and_processors_are_limited(by_tool: BuildByTool) -> None:
    reads = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    cpu = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null"
    built = await by_tool(f"RUN {reads}; {cpu}; ulimit -f; df -k /dev/shm | tail -1", memory_mb=64)
    assert f"\n{64 << 20}\n" in built["log"]
    assert f"\n{builds.PERIOD}" in built["log"]
    failed = await refusal(by_tool("RUN tail -c 500M /dev/zero | tail", memory_mb=32), "image_build_failed")
    assert "line 2" in failed.message


async def test_what_is_written_is_limited(
    by_tool: BuildByTool, client: docker.APIClient, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "MAX_SIZE", client.inspect_image(BASE)["Size"] + 1_000_000)  # type: ignore[no-untyped-call]
    # In one command it is seen while it goes on, by many small ones at the end.
    fills = "for i in $(seq 200); do head -c 4M /dev/zero > /f$i; sleep 0.1; done; sleep 600"
    running = await refusal(by_tool(f"RUN {fills}"), "too_large")
    assert "has written" in running.message
    ended = await refusal(by_tool("RUN head -c 2M /dev/zero > /f"), "too_large")
    assert "the image has" in ended.message
    assert not exists(client, tag)


async def test_lines_like_the_engines_own_name_no_container(
    by_tool: BuildByTool, client: docker.APIClient, build: Build
) -> None:
    prints = "for i in $(seq 100000 101000); do echo ' ---> Running in 000000'$i; sleep 0.005; done; sleep 600"
    failed = await refusal(by_tool(f"RUN {prints}"), "image_build_failed")
    assert "the Engine's own lines" in failed.message


async def test_a_build_without_an_end_is_ended(by_tool: BuildByTool) -> None:
    failed = await refusal(by_tool("RUN sleep 600", timeout=2), "image_build_failed")
    assert "within 2 s" in failed.message


async def test_a_cancelled_build_leaves_no_container_and_no_image(
    by_tool: BuildByTool, client: docker.APIClient, tag: str
) -> None:
    before = containers_of(client)
    building = asyncio.ensure_future(by_tool("RUN trap '' TERM INT; sleep 600"))
    await until(lambda: bool(containers_of(client) - before))
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await until(lambda: containers_of(client) <= before)
    assert not exists(client, tag)


@pytest.mark.parametrize(
    "trigger", ["ADD https://example.com/x /x", "COPY --from=other:1 /x /x", "ADD --chown=1 x /x", "RUN <<A"]
)
async def test_what_a_base_brings_along_is_looked_at(
    by_tool: BuildByTool, client: docker.APIClient, endpoint: Endpoint, tag: str, trigger: str
) -> None:
    base = f"stepbox-test:{uuid4().hex[:12]}"
    container = client.create_container(BASE, "true")
    name, _, version = base.partition(":")
    client.commit(container, repository=name, tag=version, conf={"OnBuild": [trigger]})
    client.remove_container(container)
    try:
        refused = await refusal(by_tool("", dockerfile=f"FROM {base}\n"), "invalid_arguments")
        assert f"ONBUILD of {base}" in refused.message
    finally:
        client.remove_image(base, force=True)


async def test_an_image_to_start_from_is_not_pulled_where_that_is_denied(by_tool: BuildByTool) -> None:
    refused = await refusal(by_tool("", dockerfile="FROM stepbox-absent:1\n"), "not_found")
    assert "stepbox-absent:1" in refused.message
    # No registry can be reached here.
    refused = await refusal(by_tool("", dockerfile="FROM localhost:1/absent:1\n", pull="missing"), "image_pull_failed")
    assert "localhost:1/absent:1" in refused.message


@pytest.mark.parametrize(
    "name", ["/etc/x", "../x", "a/../../x", "./x", "a//b", "a\\b", "", "a/", "a\nb", "Dockerfile", ".dockerignore"]
)
async def test_files_lie_in_the_build(by_tool: BuildByTool, name: str) -> None:
    await refusal(by_tool("", files={name: "x"}), "invalid_arguments")


async def test_files_and_dockerfile_are_limited(by_tool: BuildByTool) -> None:
    await refusal(by_tool("", files={"a": "x" * 600_000, "b": "x" * 600_000}), "too_large")
    await refusal(by_tool("", files={str(number): "" for number in range(201)}), "invalid_arguments")
    await refusal(by_tool("", dockerfile=f"FROM {BASE}\nRUN " + "x" * 70_000), "too_large")
    await refusal(by_tool("", files={"a": {"content": "!", "encoding": "base64"}}), "invalid_arguments")


@pytest.mark.parametrize("wrong", ["untagged", "Upper:1", "a:1\n", "a b:1", "--x:1", "a@sha256:1", ":1", "a/../b:1"])
async def test_a_tag_is_a_name_and_a_tag(by_tool: BuildByTool, wrong: str) -> None:
    await refusal(by_tool("", tag=wrong), "invalid_arguments")


async def test_without_an_engine_it_is_said_who_builds(by_tool: BuildByTool) -> None:
    refused = await refusal(by_tool("", host="unix:///nowhere/docker.sock"), "docker_unavailable")
    assert "DOCKER_HOST" in (refused.fix or "")
    assert "nsjail" not in (refused.fix or "")


async def test_an_engine_that_builds_with_another_runtime_is_refused(by_tool: BuildByTool) -> None:
    assert "runsc" in (await refusal(by_tool("", runtime="runsc"), "refused")).message
