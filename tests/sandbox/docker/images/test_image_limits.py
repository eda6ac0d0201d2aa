"""Any image in a step, however hostile"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import docker
import pytest

from flows.values import StepStatus
from scripts.docker_engine import BASE
from steps.sandbox.docker import container
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.docker.step_images import command_of
from steps.sandbox.docker.sweeper import sweep
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import SandboxLostError
from tests.sandbox.conftest import until
from tests.sandbox.docker.images.conftest import Build, Call, RunImage, made_of, step, volumes
from tests.sandbox.docker.tls import forward

attack = pytest.mark.attack
pytestmark = pytest.mark.only_runner("docker")


async def said_by_nobody(_line: str) -> None:
    raise AssertionError("nothing is pulled")


@attack("an image that ignores SIGTERM", "`timed_out`, killed after the grace")
@pytest.mark.parametrize(
    "more",
    [
        {"run": "trap '' TERM; while :; do sleep 1; done"},
        {"args": ["sleep", "60"]},
        {"args": ["sh", "-c", "setsid sleep 60 & sleep 60"]},
    ],
)
async def test_image_that_ignores_sigterm_is_killed(run_image: RunImage, more: dict[str, Any]) -> None:
    outcome = await run_image(**more, limits={"timeout": "1s"})
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.TIMED_OUT, "timed_out")


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1"])
async def test_image_is_asked_to_end_by_its_own_signal(run_image: RunImage, build: Build, name: str) -> None:
    call = Call()
    script = f"trap 'echo asked; exit 0' {name}; echo ready; while :; do sleep 0.1; done"
    outcome = await run_image(build(f"STOPSIGNAL SIG{name}"), run=script, limits={"timeout": "1s"}, call=call)
    assert outcome.status is StepStatus.TIMED_OUT
    assert call.lines == [("stdout", "ready"), ("stdout", "asked")]


@attack("an image whose STOPSIGNAL ends nothing", "`timed_out`, killed after the grace")
@pytest.mark.parametrize("name", ["SIGCONT", "SIGCHLD", "SIGSTOP", "SIGKILL"])
async def test_stop_signal_that_stops_nothing_changes_nothing(run_image: RunImage, build: Build, name: str) -> None:
    outcome = await run_image(build(f"STOPSIGNAL {name}"), args=["sleep", "60"], limits={"timeout": "1s"})
    assert outcome.status is StepStatus.TIMED_OUT


@attack("an image that leaves daemons running", "`succeeded`; they end with it")
async def test_daemons_end_with_the_command(run_image: RunImage, client: docker.APIClient) -> None:
    script = "for n in 1 2 3; do setsid sh -c 'while :; do echo late; sleep 0.05; done' & done; echo '1' > $RESULT"
    outcome = await run_image(run=script)
    assert (outcome.status, outcome.result) == (StepStatus.SUCCEEDED, 1)


@attack("an image that needs more memory than its limit", "`out_of_memory`")
@pytest.mark.parametrize(
    "script",
    [
        "exec python3 -c 'import time; x = bytearray(200_000_000); time.sleep(20)'",
        "python3 -c 'x = bytearray(200_000_000)'",
        "python3 -c 'x = bytearray(200_000_000)' || echo it was the child",
        "python3 -c 'x = bytearray(200_000_000)' || exit 3",
        "head -c 200000000 /dev/zero > /tmp/x",
        "head -c 200000000 /dev/zero > /work/x",
        "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}",
    ],
)
async def test_memory_beyond_the_limit_is_told(run_image: RunImage, script: str) -> None:
    outcome = await run_image(run=script, limits={"memory": "64MB", "disk": "400MB", "timeout": "25s"})
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.OUT_OF_MEMORY, "out_of_memory")


@attack("an image that forks without end", "contained; `timed_out` or `failed`")
async def test_fork_bomb_is_contained(run_image: RunImage) -> None:
    outcome = await run_image(run="bomb() { bomb | bomb & }; bomb; sleep 30", limits={"timeout": "2s"})
    assert outcome.status in (StepStatus.TIMED_OUT, StepStatus.FAILED)


@attack("an image that fills what it may write", "`failed`, code `disk_full`")
@pytest.mark.parametrize("path", ["/work/x", "/tmp/x", "/dev/shm/x"])
async def test_disk_is_limited(run_image: RunImage, path: str) -> None:
    outcome = await run_image(run=f"head -c 30000000 /dev/zero > {path}", limits={"disk": "5MB"})
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "disk_full")


@attack("an image that writes elsewhere", "read-only file system")
@pytest.mark.parametrize("path", ["/x", "/etc/x", "/usr/bin/x", "/var/tmp/x", "/root/x"])
async def test_nothing_else_can_be_written(run_image: RunImage, build: Build, path: str) -> None:
    image = build("RUN chmod 777 / /etc /usr/bin /var/tmp /root")
    outcome = await run_image(image, run=f"echo x > {path}")
    assert outcome.status is StepStatus.FAILED
    assert "Read-only file system" in outcome.stderr


@attack("an image that prints without end", "cut and marked; the step goes on")
async def test_output_is_limited(run_image: RunImage) -> None:
    outcome = await run_image(
        run="head -c 50000000 /dev/zero | tr '\\0' x; echo 1 > $RESULT", limits={"output": "10kB"}
    )
    assert (outcome.status, outcome.result, outcome.error) == (StepStatus.SUCCEEDED, 1, None)
    assert outcome.stdout.endswith("[output beyond 10000 bytes is dropped]\n")
    assert len(outcome.stdout) < 11_000


@attack("an image that uses more processors than its limit", "held to it")
async def test_processors_are_limited(run_image: RunImage) -> None:
    spin = (
        "import time, resource; t = time.monotonic()\nwhile time.monotonic() - t < 2: pass\nprint(time.process_time())"
    )
    outcome = await run_image(args=["python3", "-c", spin], limits={"cpu": 0.2})
    assert float(str(outcome.result)) < 1.2


async def test_container_has_what_the_design_says_and_nothing_else(
    executor: ImageExecutor, build: Build, client: docker.APIClient
) -> None:
    image = build("USER 0\nVOLUME /data\nENV LD_PRELOAD=/evil.so")
    running = asyncio.ensure_future(executor.execute(step(image, run="sleep 60"), Call()))
    [made] = await until(lambda: made_of(client, image, ended=False))
    found = client.inspect_container(made)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    host: Mapping[str, Any] = found["HostConfig"]
    assert (host["Binds"], host["Privileged"], host["CapAdd"], host["CapDrop"]) == (None, False, None, ["ALL"])
    assert host["NetworkMode"].startswith("container:")
    assert (host["IpcMode"], host["PidMode"], host["CgroupnsMode"], host["UTSMode"]) == ("private", "", "private", "")
    assert (host["ReadonlyRootfs"], host["LogConfig"]["Type"], host["AutoRemove"]) == (True, "none", False)
    assert host["Memory"] == host["MemorySwap"] == 128_000_000
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (100_000, 100_000, 64)
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {
        "nofile": 1024,
        "core": 1,
        "nice": 0,
        "rtprio": 0,
    }
    assert {mount["Destination"]: mount["Type"] for mount in found["Mounts"]} == {"/work": "volume", "/data": "volume"}
    assert found["Config"]["User"] == "1000:1000"
    assert set(found["Config"]["Labels"]) >= {container.OWNER_LABEL, container.DEADLINE_LABEL}


@attack("an image that looks for capabilities, a way to gain them, and denied system calls", "none, none, `EPERM`")
async def test_image_has_no_privileges(run_image: RunImage, build: Build) -> None:
    image = build("RUN cp /bin/bash /rootbash && chmod 4755 /rootbash")
    code = """
import ctypes, os
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    return ctypes.get_errno() if libc.syscall(number, *arguments) < 0 else 0
print(*(status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")))
print(os.popen("/rootbash -p -c 'id -u'").read().strip())
print([call(*which) for which in ((101, 0), (272, 0x10000000), (165, 0, 0, 0, 0, 0), (321, 0, 0, 0))])
"""
    outcome = await run_image(image, args=["python3", "-c", code])
    capabilities, user, calls = str(outcome.result).split("\n")
    assert capabilities == " ".join(["0000000000000000"] * 5 + ["1", "2"])
    assert user == "1000"
    assert calls == "[1, 1, 1, 1]"


@attack("an image that looks for its sidecar: processes, memory, sockets", "nothing of it can be seen or reached")
async def test_sidecar_can_not_be_reached(run_image: RunImage) -> None:
    code = r"""
import os, socket
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) == [os.getpid()])
print([line.split()[-1] for line in open("/proc/net/unix")][1:], len(open("/proc/net/tcp").readlines()) - 1)
for number in range(2, 400):
    try: os.kill(number, 9)
    except ProcessLookupError: pass
    else: print("killed", number)
line = socket.socket(socket.AF_UNIX)
try: line.connect("\0stepbox")
except OSError as error: print(type(error).__name__)
"""
    outcome = await run_image(args=["python3", "-c", code])
    assert outcome.result == "True\n[] 0\nConnectionRefusedError"


@attack(
    "what an image leaves in the work directory: links out of it, a FIFO, a device", "nothing of the sidecar is read"
)
@pytest.mark.parametrize(
    "script",
    [
        "ln -s /etc/passwd $RESULT",
        "rm -r .stepbox; ln -s /etc .stepbox",
        "rm -r .stepbox; ln -s /proc/self/environ .stepbox",
        "mkfifo $RESULT",
        "mkdir $RESULT",
        "rm -r .stepbox",
        "chmod 0 .stepbox",
    ],
)
async def test_result_is_read_from_a_file_of_its_own_only(run_image: RunImage, script: str) -> None:
    outcome = await run_image(run=f"{script}; echo printed")
    assert (outcome.status, outcome.result, outcome.error) == (StepStatus.SUCCEEDED, "printed", None)


@attack("an image that opens the network by itself", "there is none but loopback")
async def test_there_is_no_network(run_image: RunImage) -> None:
    code = """
import socket
print([line.split(":")[0].strip() for line in open("/proc/net/dev")][2:])
for place in (("1.1.1.1", 443), ("172.17.0.1", 2375), ("127.0.0.1", 17853)):
    try: socket.create_connection(place, 2)
    except OSError as error: print(error.strerror)
    else: print("connected", place)
"""
    outcome = await run_image(args=["python3", "-c", code])
    assert outcome.result == "['lo']\nNetwork is unreachable\nNetwork is unreachable\nConnection refused"


async def test_too_few_processes_to_start_are_refused(executor: ImageExecutor) -> None:
    refused = await executor.refusal(step(BASE, run="true", limits={"pids": 4}))
    assert refused is not None
    assert refused.code == "limit_unavailable"
    allowed = step(BASE, run="true", limits={"pids": 16, "memory": "16MB", "disk": "1MB"})
    assert (await executor.execute(allowed, Call())).error is None


OWNER = """
import asyncio, os, sys
sys.path.insert(0, os.getcwd())
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import SandboxLostError
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import SandboxLostError
from tests.sandbox.docker.images.conftest import Call, step

class Told(Call):
    async def log(self, stream, line):
        print(line, flush=True)

async def main():
    runner = DockerRunner(Endpoint(url=os.environ["STEPBOX_TEST_DOCKER_HOST"]))
    pool = Sandboxes(runner)
    executor = ImageExecutor(pool, runner)
    try:
        await executor.execute(step(sys.argv[1], run="echo running; sleep 600", limits={"timeout": "600s"}), Told())
    finally:
        await pool.close()

asyncio.run(main())
"""


@attack("the engine is killed while an image runs", "its containers and their work directory go at the next start")
async def test_killed_owner_leaves_nothing_after_a_sweep(
    endpoint: Endpoint, containers: DockerRunner, build: Build, client: docker.APIClient
) -> None:
    before, image = volumes(client), build("ENV A=1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, image),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "STEPBOX_TEST_DOCKER_HOST": endpoint.url},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    made = await until(lambda: made_of(client, image, ended=False))
    assert len(made) == 1
    engine = await containers._opened()
    await until(lambda: len([each for each in client.containers() if each["Id"] in made]) == 1)
    await sweep(engine, containers._owner, set)
    await until(lambda: not [each for each in client.containers(all=True) if each["Id"] in made])
    await until(lambda: volumes(client) <= before)


async def test_terminated_owner_leaves_nothing_itself(
    endpoint: Endpoint, build: Build, client: docker.APIClient
) -> None:
    before, image = volumes(client), build("ENV A=1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, image),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "STEPBOX_TEST_DOCKER_HOST": endpoint.url},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"
    process.send_signal(signal.SIGINT)
    await process.wait()
    await until(lambda: not made_of(client, image))
    await until(lambda: volumes(client) <= before)


async def test_image_killed_from_outside_is_told(run_image: RunImage, build: Build, client: docker.APIClient) -> None:
    image, call = build("ENV A=1"), Call()
    running = asyncio.ensure_future(run_image(image, run="echo on; sleep 60", call=call))
    await until(lambda: call.lines)
    [made] = await until(lambda: made_of(client, image, ended=False))
    client.kill(made)
    outcome = await running
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.KILLED, "killed")


async def test_sidecar_that_is_gone_before_it_took_a_job_loses_nothing(
    containers: DockerRunner, executor: ImageExecutor, client: docker.APIClient
) -> None:
    found = await containers.images.get(BASE, "never", run="", note=said_by_nobody)
    command = command_of(BASE, found, script="echo on", entrypoint=None, arguments=None)
    job = executor._job(step(BASE, run="echo on"), {}, command)
    sandbox = await containers.start(profile_of(job))
    client.kill(sandbox.container)
    with pytest.raises(SandboxLostError):
        await sandbox.execute(job, Call())


async def test_broken_connection_of_the_events_alone_loses_no_image(
    run_image: RunImage, containers: DockerRunner
) -> None:
    call = Call()
    running = asyncio.ensure_future(run_image(run="echo on; sleep 2; exec >&- 2>&-; sleep 1; exit 3", call=call))
    await until(lambda: call.lines)
    await containers._watch.close()
    outcome = await running
    assert outcome.error is not None
    assert (outcome.status, outcome.error.message) == (StepStatus.FAILED, "exit status 3")


async def test_sidecar_killed_from_outside_ends_the_step(
    run_image: RunImage, containers: DockerRunner, client: docker.APIClient
) -> None:
    call = Call()
    running = asyncio.ensure_future(run_image(run="echo on; sleep 60", call=call))
    await until(lambda: call.lines)
    [sidecar] = containers.sandboxes
    client.kill(sidecar.container)
    outcome = await running
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.KILLED, "sandbox_lost")


async def test_gvisor_runs_images_without_a_network(run_image: RunImage, executor: ImageExecutor) -> None:
    outcome = await run_image(run="echo '[1]' > $RESULT", runtime="runsc")
    assert (outcome.result, outcome.error) == ([1], None)
    refused = await executor.refusal(step(BASE, run="true", runtime="runsc", network={"allow": ["a.example.com"]}))
    assert refused is not None
    assert refused.code == "runtime_unavailable"


async def test_lost_connection_to_the_engine_is_a_typed_failure(endpoint: Endpoint, client: docker.APIClient) -> None:
    before = volumes(client)
    assert endpoint.socket is not None
    async with forward(endpoint.socket, None) as port:
        runner = DockerRunner(Endpoint(url=f"tcp://127.0.0.1:{port}"))
        pool = Sandboxes(runner)
        call = Call()
        running = asyncio.ensure_future(ImageExecutor(pool, runner).execute(step(BASE, run="echo on; sleep 30"), call))
        await until(lambda: call.lines)
    outcome = await running
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "engine_lost")
    await pool.close()
    # What the sweeper would do once the Engine is there again.
    sweeper = DockerRunner(endpoint)
    engine = await sweeper._opened()
    for left in [each["Id"] for each in await engine.labelled(f"{container.OWNER_LABEL}={runner._owner}")]:
        await engine.remove(left)
    await sweeper.close()
    await until(lambda: volumes(client) <= before)
