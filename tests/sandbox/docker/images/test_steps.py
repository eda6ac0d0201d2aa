"""Steps of ``image``: what goes in, what comes out, and what an image may be like."""

import asyncio
import json
from base64 import b64encode
from typing import Any

import docker
import pytest

from flows.errors import RefusedError
from flows.values import Json, StepStatus
from scripts.docker_engine import BASE
from steps.masking import SHOWN, Mask
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes
from tests.sandbox.conftest import until
from tests.sandbox.docker.images.conftest import Build, Call, RunImage, busybox, made_of, step, volumes

ENTRY = b'#!/bin/sh\necho entry: "$@"\n'


async def test_script_gets_inputs_and_gives_its_output(run_image: RunImage) -> None:
    call = Call(inputs={"name": "Ada", "count": 3, "rows": [1, 2], "none": None})
    script = 'echo "$INPUT_NAME $INPUT_COUNT [$INPUT_NONE] ${INPUT_ROWS-unset}"; cat "$INPUTS"'
    result = await run_image(run=script, call=call)
    first, _, rest = str(result.result).partition("\n")
    assert first == "Ada 3 [] unset"
    assert json.loads(rest) == call.inputs
    assert (result.status, result.isolation, result.error) == (StepStatus.SUCCEEDED, "container", None)
    assert [line for stream, line in call.lines if stream == "stdout"] == [first, rest]


@pytest.mark.parametrize(
    ("written", "result"),
    [('{"rows": [1]}', {"rows": [1]}), (" 7\n", 7), ("", None), ('"text"', "text")],
)
async def test_result_is_what_the_script_writes_there(run_image: RunImage, written: str, result: Json) -> None:
    outcome = await run_image(run=f"echo noise; printf '%s' '{written}' > $RESULT")
    assert (outcome.result, outcome.error, outcome.stdout) == (result, None, "noise\n")


async def test_result_that_is_no_json_fails(run_image: RunImage) -> None:
    outcome = await run_image(run="echo '{' > $RESULT")
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "result_not_json")


@pytest.mark.parametrize("written", ["$RESULT", "/dev/stdout"])
async def test_result_larger_than_the_limit_is_told(run_image: RunImage, written: str) -> None:
    script = f"head -c 1100000 /dev/zero | tr '\\0' 1 > {written}"
    outcome = await run_image(run=script)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.LIMIT_EXCEEDED, "result_too_large")


@pytest.mark.parametrize("status", [1, 2, 42, 126, 127, 130, 255])
async def test_exit_status_is_in_the_error(run_image: RunImage, status: int) -> None:
    outcome = await run_image(run=f"echo out; echo last words >&2; exit {status}")
    assert outcome.error is not None
    assert (outcome.status, outcome.result) == (StepStatus.FAILED, None)
    assert (outcome.error.code, outcome.error.message) == ("exit_status", f"exit status {status}: last words")
    assert (outcome.stdout, outcome.stderr) == ("out\n", "last words\n")


async def test_script_ends_where_a_command_fails(run_image: RunImage) -> None:
    outcome = await run_image(run="false\necho on")
    assert (outcome.status, outcome.stdout) == (StepStatus.FAILED, "")


async def test_output_comes_while_the_script_runs(run_image: RunImage) -> None:
    call = Call()
    running = asyncio.ensure_future(run_image(run="echo early; sleep 60", limits={"timeout": "30s"}, call=call))
    await until(lambda: ("stdout", "early") in call.lines)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_both_streams_are_told_apart(run_image: RunImage) -> None:
    outcome = await run_image(run="for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf unended")
    assert outcome.stdout == "out 1\nout 2\nout 3\nunended"
    assert outcome.stderr == "err 1\nerr 2\nerr 3\n"


@pytest.mark.parametrize(
    ("lines", "more", "output"),
    [
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {}, "entry: usual"),
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {"args": ["a b", "$HOME"]}, "entry: a b $HOME"),
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {"args": []}, "entry:"),
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {"entrypoint": ["/bin/echo", "mine"]}, "mine"),
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {"entrypoint": ["/bin/echo"], "args": ["x"]}, "x"),
        ('ENTRYPOINT ["/entry"]\nCMD ["usual"]', {"entrypoint": [], "args": ["echo", "plain"]}, "plain"),
        ('CMD ["echo", "by default"]', {}, "by default"),
        ("CMD echo in a shell: $((1 + 1))", {}, "in a shell: 2"),
        ('ENTRYPOINT ["/bin/false"]', {"run": "echo no entry point"}, "no entry point"),
    ],
)
async def test_entry_point_and_arguments_count_as_for_docker_run(
    run_image: RunImage, build: Build, lines: str, more: dict[str, Any], output: str
) -> None:
    image = build(f"COPY entry /entry\n{lines}", {"entry": ENTRY})
    outcome = await run_image(image, **more)
    assert (outcome.result, outcome.error) == (output, None)


async def test_image_with_nothing_to_run_says_so(run_image: RunImage, build: Build) -> None:
    with pytest.raises(RefusedError, match="no command of its own"):
        await run_image(build("COPY b /b", {"b": b""}, base="scratch"))


async def test_image_without_a_shell_runs_its_program(run_image: RunImage, build: Build) -> None:
    image = build('COPY cat /cat\nENTRYPOINT ["/cat"]', {"cat": busybox()}, base="scratch")
    outcome = await run_image(image, args=["/work/.stepbox/inputs.json"], call=Call(inputs={"n": 1}))
    assert (outcome.result, outcome.error) == ('{"n": 1}', None)


async def test_script_for_an_image_without_a_shell_says_so(run_image: RunImage, build: Build) -> None:
    image = build("COPY cat /cat", {"cat": busybox()}, base="scratch")
    outcome = await run_image(image, run="echo x")
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "no_shell")
    assert outcome.error.message == f"{image} has no /bin/sh, which `run` needs"
    assert str(outcome.error.fix).startswith("write the command under `args:`")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"args": ["nothing-here"]}, "command_not_found"),
        ({"args": ["/nothing/here"]}, "command_not_found"),
        ({"args": ["/etc/passwd"]}, "command_not_executable"),
    ],
)
async def test_program_that_is_not_there_is_named(run_image: RunImage, more: dict[str, Any], code: str) -> None:
    outcome = await run_image(**more)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, code)
    assert more["args"][0] in outcome.error.message


async def test_program_for_another_kind_of_machine_is_told(run_image: RunImage, build: Build) -> None:
    program = bytearray(busybox())
    program[18:20] = (0xF3).to_bytes(2, "little")  # e_machine: RISC-V
    outcome = await run_image(build('COPY cat /cat\nENTRYPOINT ["/cat"]', {"cat": bytes(program)}, base="scratch"))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "wrong_platform")


@pytest.mark.parametrize(
    ("lines", "more", "place"),
    [
        ("", {"run": "pwd"}, "/work"),
        ("", {"args": ["pwd"]}, "/work"),
        ("WORKDIR /usr/lib", {"args": ["pwd"]}, "/usr/lib"),
        ("WORKDIR /usr/lib", {"run": "pwd"}, "/work"),
        ("WORKDIR /not/there", {"args": ["pwd"]}, "/not/there"),
    ],
)
async def test_command_starts_where_the_image_says_and_a_script_in_the_work_directory(
    run_image: RunImage, build: Build, lines: str, more: dict[str, Any], place: str
) -> None:
    assert (await run_image(build(lines), **more)).result == place


async def test_variables_of_the_image_are_kept_and_only_those_and_the_steps(run_image: RunImage, build: Build) -> None:
    image = build("ENV MINE=1 PATH=/mine:/usr/bin:/bin HOME=/home/mine INPUTS=/evil")
    outcome = await run_image(image, args=["env"], call=Call(inputs={"a": "x\ny"}))
    found = dict(line.split("=", 1) for line in str(outcome.result).split("\n") if "=" in line)
    assert found == {
        "MINE": "1",
        "PATH": "/mine:/usr/bin:/bin",
        "HOME": "/home/mine",
        "TMPDIR": "/tmp",
        "INPUTS": "/work/.stepbox/inputs.json",
        "RESULT": "/work/.stepbox/result.json",
        "ARTIFACTS": "/work/artifacts",
        "INPUT_A": "x",
        "HOSTNAME": "stepbox",
    }


@pytest.mark.parametrize("lines", ["USER 0", "USER nobody", "USER does-not-exist", "USER 4711:4711"])
async def test_user_is_never_the_images(run_image: RunImage, build: Build, lines: str) -> None:
    outcome = await run_image(build(lines), run="id -u; id -g; id -G")
    assert outcome.result == "1000\n1000\n1000"


async def test_image_of_a_single_file_has_all_that_a_step_needs(run_image: RunImage, build: Build) -> None:
    """No /tmp, no /etc/passwd, no directory at all."""
    image = build('COPY sh /bin/sh\nENTRYPOINT ["/bin/sh"]', {"sh": busybox()}, base="scratch")
    outcome = await run_image(image, run="echo t > /tmp/t; echo w > w; read t < /tmp/t; read w < w; echo $t $w $HOME")
    assert (outcome.result, outcome.error) == ("t w /work", None)


async def test_volumes_are_in_memory_empty_and_sized(
    run_image: RunImage, build: Build, client: docker.APIClient, nothing_left: None
) -> None:
    image = build('RUN mkdir -p /data/a && echo x > /data/a/x\nVOLUME ["/data/a", "/data/b", "/tmp", "/work"]')
    script = "ls -A /data/a; stat -f -c %T /data/a /data/b /tmp /work; echo y > /data/a/y; head -c 3000000 /dev/zero > /data/b/z"
    outcome = await run_image(image, run=script, limits={"disk": "2MB"})
    assert outcome.stdout == "tmpfs\n" * 4, outcome
    assert outcome.error is not None, outcome
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "disk_full"), outcome
    await until(lambda: not made_of(client, image))


async def test_health_check_and_build_triggers_do_nothing(run_image: RunImage, build: Build) -> None:
    lines = 'HEALTHCHECK --interval=1s CMD ["/bin/sh", "-c", "echo x > /work/health"]\nONBUILD RUN false'
    outcome = await run_image(build(lines), run="sleep 1.5; ls /work")
    assert outcome.result == "artifacts"


async def test_outcome_names_the_image_by_digest(run_image: RunImage, build: Build, client: docker.APIClient) -> None:
    image = build("ENV A=1")
    outcome = await run_image(image, run="true")
    assert outcome.image == f"stepbox-test@{client.inspect_image(image)['Id']}"  # type: ignore[no-untyped-call]


async def test_returns_is_checked(run_image: RunImage) -> None:
    outcome = await run_image(run="echo 1 > $RESULT", returns={"type": "string"})
    assert outcome.error is not None
    assert outcome.error.code == "result_schema"


async def test_large_and_odd_inputs_come_whole(run_image: RunImage) -> None:
    inputs: dict[str, Json] = {"text": 'a"\n$(touch x) \\ é', "large": "x" * 3_000_000}
    script = 'printf "%s" "$INPUT_TEXT"; echo; wc -c < "$INPUTS"; echo "${INPUT_LARGE-unset}"; ls'
    outcome = await run_image(run=script, call=Call(inputs=inputs))
    size = len(json.dumps(inputs).encode())
    assert outcome.result == f"{inputs['text']}\n{size}\nunset\nartifacts"


async def test_inputs_that_do_not_fit_on_the_disk_are_told(run_image: RunImage) -> None:
    outcome = await run_image(run="true", limits={"disk": "1MB"}, call=Call(inputs={"large": "x" * 3_000_000}))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "disk_full")


async def test_files_come_in_and_artifacts_go_out(run_image: RunImage) -> None:
    call = Call(earlier={"load/a.csv": b"1", "load/deep/b.csv": b"22"})
    script = "cat load/a.csv load/deep/b.csv; mkdir -p $ARTIFACTS/x; cp load/a.csv $ARTIFACTS/x/c; echo d > artifacts/d; id -u"
    outcome = await run_image(run=script, files=["load/a.csv", "load/deep/b.csv"], call=call)
    assert (outcome.result, outcome.error) == ("1221000", None)
    assert call.kept == {"x/c": b"1", "d": b"d\n"}
    assert [artifact.path for artifact in outcome.artifacts] == ["d", "x/c"]


async def test_failed_image_leaves_its_artifacts_too(run_image: RunImage) -> None:
    call = Call()
    outcome = await run_image(run="echo x > $ARTIFACTS/log; exit 1", call=call)
    assert (outcome.status, call.kept) == (StepStatus.FAILED, {"log": b"x\n"})


@pytest.mark.attack(
    "an image is given a secret",
    "it is a file in memory, which no inspection of the container shows; output and result are masked",
    group="Secrets",
)
async def test_a_secret_is_a_file_that_the_engine_knows_nothing_of(
    executor: ImageExecutor, build: Build, client: docker.APIClient
) -> None:
    value = "hunter2&s3cret/+=?~"
    image = build("RUN useradd --uid 4242 other\nUSER other")
    call = Call(secrets={"token": value}, mask=Mask({"token": [value]}))
    script = """
        stat -c '%a %s' "$SECRETS/token"
        printf %s "$(cat "$SECRETS/token")" | base64; env; cat /proc/*/environ /proc/mounts 2>/dev/null | tr '\\0' '\\n'
        echo ready; sleep 2; cat "$SECRETS/token"; cat "$SECRETS/token" >&2
    """
    running = asyncio.ensure_future(executor.execute(step(image, run=script, secrets=["token"]), call))
    (name,) = await until(lambda: made_of(client, image, ended=False))
    inspected = json.dumps(client.inspect_container(name))
    result = await running
    assert (result.status, result.error) == (StepStatus.SUCCEEDED, None)
    assert str(result.result).startswith(f"400 {len(value)}\n")
    assert str(result.result).endswith(f"ready\n{SHOWN}")
    assert result.stderr == SHOWN
    assert '"SECRETS=' in inspected
    for text in (inspected, str(result), repr(call.lines)):
        assert value[:7] not in text
        assert b64encode(value.encode()).decode()[:7] not in text


async def test_only_files_become_artifacts(run_image: RunImage) -> None:
    call = Call()
    script = "ln -s /etc/passwd $ARTIFACTS/link; mkfifo $ARTIFACTS/fifo; echo x > $ARTIFACTS/x"
    outcome = await run_image(run=script, call=call)
    assert (outcome.status, call.kept) == (StepStatus.SUCCEEDED, {"x": b"x\n"})
    assert outcome.stderr.count("left out of the artifacts") == 2


async def test_several_steps_at_once_are_strangers(run_image: RunImage) -> None:
    script = "echo $INPUT_N > mine; echo $INPUT_N > /tmp/mine; sleep 0.3; cat mine /tmp/mine; ls /work"
    outcomes = await asyncio.gather(*(run_image(run=script, call=Call(inputs={"n": n})) for n in range(4)))
    assert [outcome.result for outcome in outcomes] == [f"{n}\n{n}\nartifacts\nmine" for n in range(4)]


async def test_nothing_is_left_whatever_the_end(
    containers: DockerRunner, sandboxes: Sandboxes, run_image: RunImage, build: Build, client: docker.APIClient
) -> None:
    before = volumes(client)
    image = build("ENV HERE=1")
    for more in (
        {"run": "true"},
        {"run": "exit 1"},
        {"args": ["nothing"]},
        {"run": "sleep 60", "limits": {"timeout": "1s"}},
    ):
        await run_image(image, **more)
    running = asyncio.ensure_future(run_image(image, run="sleep 60"))
    await until(lambda: made_of(client, image, ended=False))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await sandboxes.close()
    assert not made_of(client, image)
    await until(lambda: volumes(client) <= before)


async def test_ready_sidecar_serves_any_image(executor: ImageExecutor, sandboxes: Sandboxes, build: Build) -> None:
    one, other = step(BASE, run="echo one"), step(build("ENV A=b"), run="echo $A")
    executor.expect(one, 2)
    await until(lambda: sandboxes.ready == 2)
    assert [(await executor.execute(each, Call())).result for each in (one, other)] == ["one", "b"]
