"""What only containers have, and must not give away."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import pytest

from flows.errors import RefusedError
from flows.values import Json, StepStatus
from steps.sandbox.docker import container
from steps.sandbox.docker.endpoint import Certificates, Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.limits import default_limits
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import Job, LimitUnavailableError
from tests.sandbox.conftest import RecordingHost, RunStep, until
from tests.sandbox.docker.conftest import BuildImage
from tests.sandbox.docker.tls import Authority, forward

SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    value = libc.syscall(number, *arguments)
    return os.strerror(ctypes.get_errno()) if value < 0 else value
"""


def python(code: str) -> Job:
    return Job(language="python", code=code, inputs={}, limits=default_limits("python"))


async def run_in(runner: DockerRunner, code: str) -> Json:
    sandbox = await runner.start(profile_of(python(code)))
    outcome = await sandbox.execute(python(code), RecordingHost())
    assert outcome.status is StepStatus.SUCCEEDED, outcome
    return outcome.result


@pytest.mark.parametrize("path", ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"])
async def test_engines_socket_does_not_exist(run_step: RunStep, endpoint: Endpoint, path: str) -> None:
    code = f"import os\nreturn [os.path.exists(path) for path in ({path!r}, {str(endpoint.socket)!r})]"
    assert (await run_step(code)).result == [False, False]


async def test_no_port_of_an_engine_is_reachable(run_step: RunStep) -> None:
    code = """
import socket
found = []
for host in ("127.0.0.1", "172.17.0.1", "host.docker.internal", "gateway.docker.internal"):
    for port in (2375, 2376):
        try: socket.create_connection((host, port), 2)
        except OSError: continue
        found.append((host, port))
return found
"""
    assert (await run_step(code)).result == []


async def test_container_is_not_called_by_its_id(run_step: RunStep) -> None:
    code = "import os, socket\nreturn socket.gethostname(), open('/proc/self/cgroup').read()"
    outcome = await run_step(code)
    name, cgroups = outcome.result
    assert name == "stepbox"
    assert all(line.endswith(":/") for line in cgroups.splitlines())


async def test_nothing_is_told_of_the_machines_names(run_step: RunStep) -> None:
    code = "return [open(f'/etc/{name}').read().split() for name in ('resolv.conf', 'hosts', 'hostname')]"
    servers, hosts, name = (await run_step(code)).result
    assert [word for word in servers if not word.startswith("#")] == ["nameserver", "127.0.0.1"]
    assert {word for word in hosts if word[0].isdigit()} <= {"127.0.0.1"}
    assert name == ["stepbox"]


async def test_another_container_is_unknown_by_every_name(
    run_step: RunStep, containers: DockerRunner, client: docker.APIClient
) -> None:
    host = RecordingHost()
    code = "print('on', flush=True)\nimport socket, time\nsocket.create_server(('', 4321))\ntime.sleep(60)"
    running = asyncio.create_task(run_step(code, host=host))
    await until(lambda: host.lines)
    (other,) = containers.sandboxes
    found = client.inspect_container(other.container)
    names: list[Json] = [other.container, other.container[:12], found["Name"].lstrip("/"), "stepbox.bridge"]
    looking = """
import os, socket
found = []
for name in inputs["names"]:
    try: found.append(str(socket.create_connection((name, 4321), 2)))
    except (OSError, UnicodeError): pass
return found + [pid for pid in os.listdir("/proc") if pid.isdecimal() and int(pid) > 30]
"""
    outcome = await run_step(looking, inputs={"names": names})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (outcome.result, outcome.error) == ([], None)


async def test_container_has_what_the_design_says_and_nothing_else(
    containers: DockerRunner, client: docker.APIClient
) -> None:
    sandbox = await containers.start(profile_of(python("")))
    found = client.inspect_container(sandbox.container)
    host: Mapping[str, Any] = found["HostConfig"]
    assert found["Mounts"] == []
    assert (host["Binds"], host["Privileged"], host["CapAdd"], host["CapDrop"]) == (None, False, None, ["ALL"])
    assert (host["NetworkMode"], host["IpcMode"], host["PidMode"], host["CgroupnsMode"]) == (
        *("none", "private", "", "private"),
    )
    assert (host["ReadonlyRootfs"], host["LogConfig"]["Type"], host["AutoRemove"]) == (True, "none", True)
    assert host["Memory"] == host["MemorySwap"] == 264_000_000
    limits = {each["Name"]: (each["Soft"], each["Hard"]) for each in host["Ulimits"]}
    assert limits == {"nofile": (1024, 1024), "core": (1, 1), "nice": (0, 0), "rtprio": (0, 0)}
    told = client.info()
    may_swap = not told["SwapLimit"] and host["MemorySwappiness"] != 0
    assert not may_swap or told.get("CgroupVersion") == "2"
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (100_000, 100_000, 65)
    assert found["Config"]["User"] == "1000:1000"
    assert set(found["Config"]["Labels"]) >= {container.OWNER_LABEL, container.DEADLINE_LABEL}


async def test_container_may_not_swap_where_the_kernel_has_no_limit_of_swap(
    containers: DockerRunner, client: docker.APIClient
) -> None:
    await containers.enforcement()
    containers._engine.info = {**containers._engine.info, "SwapLimit": False}
    sandbox = await containers.start(profile_of(python("")))
    found = client.inspect_container(sandbox.container)["HostConfig"]["MemorySwappiness"]
    assert found == (0 if containers._engine.info["CgroupVersion"] == "1" else None)
    outcome = await sandbox.execute(python("return 1"), RecordingHost())
    assert outcome.result == 1


@pytest.mark.parametrize(
    "path", ["/sys", "/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/dev/pts", "/dev/mqueue", "/work", "/home"]
)
async def test_nothing_of_the_machine_is_in(run_step: RunStep, path: str) -> None:
    outcome = await run_step(f"import os\nreturn [name for name in os.listdir('{path}') if name != 'artifacts']")
    assert outcome.result == []


@pytest.mark.parametrize("name", ["cmdline", "version", "cpuinfo", "meminfo", "kallsyms", "modules", "mounts.old"])
async def test_nothing_is_told_of_the_kernel(run_step: RunStep, name: str) -> None:
    code = f"import os\npath = '/proc/{name}'\nreturn open(path).read() if os.path.exists(path) else ''"
    assert (await run_step(code)).result == ""


@pytest.mark.parametrize("name", ["environ", "mem", "maps", "fd/0", "fd/1", "cwd", "root", "exe", "stack", "auxv"])
async def test_supervisor_shows_nothing_but_that_it_is_there(run_step: RunStep, name: str) -> None:
    code = f"""
import os
try:
    return os.readlink("/proc/1/{name}") if os.path.islink("/proc/1/{name}") else open("/proc/1/{name}", "rb").read(1)
except PermissionError:
    return "denied"
"""
    assert (await run_step(code)).result == "denied"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("the supervisor's limits", "302, 1, 7, (ctypes.c_uint64 * 2)(3, 3), 0"),
        ("huge pages", "9, 0, 2**21, 3, 0x40022, -1, 0"),
        ("a filter on a socket", "54, __import__('socket').socket().fileno(), 1, 26, 0, 0"),
        ("inotify", "294, 0"),
        ("fanotify", "300, 0, 0"),
        ("asynchronous input and output", "206, 1, ctypes.byref(ctypes.c_uint64())"),
        ("memory of System V", "29, 0, 4096, 0o1600"),
        ("a file without a name", "319, b'x', 0"),
        ("local descriptor tables", "154, 0, 0, 0"),
        ("listing mounts by number", "458, 0, 0, 0, 0"),
    ],
)
async def test_system_call_is_denied_besides(run_step: RunStep, name: str, arguments: str) -> None:
    outcome = await run_step(f"{SYSCALL}\nreturn call({arguments})")
    assert outcome.result in ("Operation not permitted", "Function not implemented"), name


async def test_what_waits_in_tcp_connections_is_limited(run_step: RunStep) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0), backlog=400)
ends, total = [], 0
for _connection in range(150):
    sender = socket.create_connection(server.getsockname())
    sender.setblocking(False)
    ends.append((sender, server.accept()[0]))
    try:
        while True: total += sender.send(bytes(262144))
    except BlockingIOError: pass
return total
"""
    assert (await run_step(code)).result < 64_000_000


async def test_crash_reaches_no_handler_of_the_machine(run_step: RunStep) -> None:
    outcome = await run_step("import resource\nreturn resource.getrlimit(resource.RLIMIT_CORE)")
    assert outcome.result == [1, 1]


async def test_programs_may_be_made_and_run_in_the_work_directory(run_step: RunStep) -> None:
    outcome = await run_step("printf '#!/bin/sh\\necho made' > made; chmod +x made; ./made", "shell")
    assert outcome.result == "made"


async def test_hostile_image_reaches_neither_supervisor_nor_code(endpoint: Endpoint, on_the_guest: BuildImage) -> None:
    reference = on_the_guest(
        "USER 0\n"
        "ENV LD_PRELOAD=/evil.so PYTHONPATH=/evil PYTHONSTARTUP=/evil.py BASH_ENV=/evil.sh SECRET=1\n"
        'ENTRYPOINT ["/bin/false"]\nCMD ["evil"]\nWORKDIR /\n'
        'HEALTHCHECK --interval=1s CMD ["/bin/sh", "-c", "echo x > /work/health"]\n'
        "LABEL stepbox.owner=evil stepbox.deadline=0\nSTOPSIGNAL SIGCONT"
    )
    runner = DockerRunner(endpoint, image=reference)
    try:
        code = """
import os, time
time.sleep(1.5)
return os.getuid(), os.getcwd(), dict(os.environ), os.path.exists("/work/health")
"""
        uid, place, variables, examined = await run_in(runner, code)
    finally:
        await runner.close()
    assert (uid, place, examined) == (1000, "/work", False)
    assert not {"LD_PRELOAD", "PYTHONSTARTUP", "BASH_ENV", "SECRET"} & set(variables)
    assert "evil" not in str(variables)


async def test_image_with_a_volume_is_refused(endpoint: Endpoint, on_the_guest: BuildImage) -> None:
    runner = DockerRunner(endpoint, image=on_the_guest("VOLUME /data"))
    with pytest.raises(RefusedError, match="has volumes"):
        await runner.start(profile_of(python("")))
    await runner.close()


async def test_image_of_another_version_is_refused(endpoint: Endpoint, on_the_guest: BuildImage) -> None:
    runner = DockerRunner(endpoint, image=on_the_guest("LABEL stepbox.guest=0123456789abcdef"))
    refused = await runner.refusal(default_limits("python"))
    await runner.close()
    assert refused is not None
    assert (refused.code, refused.fix) == ("guest_image_unavailable", "run `stepbox images build`")


async def test_missing_image_says_how_to_get_it(endpoint: Endpoint) -> None:
    runner = DockerRunner(endpoint, image="stepbox-guest:missing")
    with pytest.raises(RefusedError, match="doesn't have the image") as caught:
        await runner.start(profile_of(python("")))
    await runner.close()
    assert caught.value.fix == "run `stepbox images build`"


async def test_missing_engine_says_so(tmp_path: Path) -> None:
    runner = DockerRunner(Endpoint(url=f"unix://{tmp_path}/docker.sock"))
    with pytest.raises(RefusedError, match="does not answer") as caught:
        await runner.start(profile_of(python("")))
    await runner.close()
    assert caught.value.code == "docker_unavailable"


async def test_outcome_names_the_image_by_digest(run_step: RunStep) -> None:
    outcome = await run_step("return 1")
    name, _at, digest = (outcome.image or "").partition("@")
    assert (name, digest[:7], len(digest)) == ("stepbox-guest", "sha256:", 71)


async def test_unusual_limits_are_set_when_the_job_is_known(run_step: RunStep) -> None:
    outcome = await run_step("return len(bytearray(b'x') * 400_000_000)", memory=600_000_000)
    assert outcome.result == 400_000_000


async def test_memory_below_what_a_waiting_sandbox_needs_is_refused(containers: DockerRunner) -> None:
    tight = python("import pandas")
    sandbox = await containers.start(profile_of(tight))
    job = Job(language="python", code="", inputs={}, limits=default_limits("python").__class__(memory=1_000_000))
    with pytest.raises(LimitUnavailableError):
        await sandbox.execute(job, RecordingHost())
    await sandbox.close()


async def test_timeout_longer_than_a_container_lives_is_refused(containers: DockerRunner) -> None:
    limits = default_limits("python").__class__(timeout=25 * 3600)
    assert isinstance(await containers.refusal(limits), LimitUnavailableError)


async def test_burst_is_served_by_as_many_containers(sandboxes: Sandboxes, containers: DockerRunner) -> None:
    jobs = [python(f"import time; time.sleep(0.2); return {number}") for number in range(6)]
    outcomes = await asyncio.gather(*(sandboxes.execute(job, RecordingHost()) for job in jobs))
    assert [outcome.result for outcome in outcomes] == list(range(6))
    await until(lambda: not containers.sandboxes)


async def test_engine_behind_tls_is_used_with_certificates_of_both(endpoint: Endpoint, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    assert endpoint.socket is not None
    async with forward(endpoint.socket, context) as port:
        trusted = Certificates(authority=authority.file, client=authority.issue("client"))
        runner = DockerRunner(Endpoint(url=f"tcp://localhost:{port}", certificates=trusted))
        assert await run_in(runner, "return 1") == 1
        await runner.close()
        stranger = Certificates(authority=authority.file)
        runner = DockerRunner(Endpoint(url=f"tcp://localhost:{port}", certificates=stranger))
        with pytest.raises(RefusedError, match="does not answer"):
            await runner.start(profile_of(python("")))
        await runner.close()


async def test_lost_connection_to_the_engine_is_a_typed_failure(endpoint: Endpoint) -> None:
    assert endpoint.socket is not None
    async with forward(endpoint.socket, None) as port:
        runner = DockerRunner(Endpoint(url=f"tcp://127.0.0.1:{port}"))
        host = RecordingHost()
        sandbox = await runner.start(profile_of(python("")))
        running = asyncio.create_task(
            sandbox.execute(python("print('on', flush=True)\nimport time; time.sleep(60)"), host)
        )
        await until(lambda: host.lines)
    started = time.monotonic()
    outcome = await running
    assert time.monotonic() - started < 20
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "engine_lost")
    await runner.close()
