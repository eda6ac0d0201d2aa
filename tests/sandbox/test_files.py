"""Files, environment and descriptors of the host"""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.values import Json, StepStatus
from steps.sandbox import jail, processes
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Runner
from tests.sandbox.conftest import RecordingHost, RunStep, job, told, until, user_processes

ROOT = Path(__file__).parents[2]
PLACES = "('/work', '/tmp', '/dev/shm')"
attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory of the host that all of its users may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        (path / "secret").write_text("of the host")
        yield path


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")  # An image has such paths of its own; tests/sandbox/docker tests that they are.
@attack(
    "read `/etc/shadow`, homes, logs, host keys, `/sys`, `/proc/sys`, cgroups, the sockets of daemons", "no such path"
)
async def test_paths_of_the_host_do_not_exist(run_step: RunStep) -> None:
    paths: list[Json] = [
        *("/etc/shadow", "/etc/hostname", "/etc/machine-id", "/etc/ssh", "/etc/ssl/private", "/etc/pki/tls/private"),
        *("/root", "/home", "/var", "/sys", "/boot", "/run", "/run/docker.sock", "/mnt", "/srv", "/sys/fs/cgroup"),
        *("/proc/sys", "/proc/1", "/proc/cpuinfo", "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger"),
    ]
    code = "import os\nreturn [path for path in inputs['paths'] if os.path.lexists(path)]"
    outcome = await run_step(code, inputs={"paths": paths})
    assert (outcome.result, outcome.error) == ([], None)


@pytest.mark.both_users
@attack("read the engine's source, its database, the home of its user", "no such path")
async def test_engine_and_its_database_do_not_exist(run_step: RunStep, runner: Runner, public_directory: Path) -> None:
    database = public_directory / "stepbox.db"
    database.write_text("rows")
    paths = [__file__, ROOT / "engine", ROOT / "steps" / "sandbox" / "nsjail.py", database]
    if runner.isolation == "jail":
        # An image may have a directory of the same name.
        paths.append(Path.home())
    code = "import os\nreturn [path for path in inputs['paths'] if os.path.lexists(path)]"
    outcome = await run_step(code, inputs={"paths": [str(path) for path in paths]})
    assert (outcome.result, outcome.error) == ([], None)


@pytest.mark.both_users
@attack("climb out by `/proc/self/root`, `/proc/self/cwd` and `..`", "it is the sandbox's own root")
async def test_own_root_is_all_there_is(run_step: RunStep, public_directory: Path) -> None:
    code = """
import os
ways = ("/proc/self/root", "/proc/self/cwd/../../../..", "/proc/thread-self/root", "/..", f"/proc/{os.getpid()}/root")
return [sorted(os.listdir(way)) == sorted(os.listdir("/")) and not os.path.exists(way + inputs["secret"]) for way in ways]
"""
    outcome = await run_step(code, inputs={"secret": f"{public_directory}/secret"})
    assert outcome.result == [True] * 5


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")
@attack("read an installation that lies in a directory which is mounted, as `/usr/src/app`", "it is an empty directory")
async def test_private_directory_in_a_mounted_one_is_empty(
    public_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = public_directory / "src" / "app"
    home.mkdir(parents=True)
    (home / "stepbox.db").write_text("rows")
    monkeypatch.setattr(jail, "_SYSTEM_PATHS", (*jail._SYSTEM_PATHS, str(public_directory)))
    code = """
import os, pathlib
home = pathlib.Path(inputs["home"])
home.chmod(0o777)
try: (home / "own").mkdir()
except OSError as error: return [list(home.iterdir()), (home.parents[1] / "secret").read_text(), error.strerror]
"""
    pool = Sandboxes(NsjailRunner(private=(home,)))
    outcome = await pool.execute(job(code, inputs={"home": str(home)}), RecordingHost())
    await pool.close()
    assert outcome.result == [[], "of the host", "No space left on device"]


@pytest.mark.both_users
@pytest.mark.only_runner("nsjail")
@attack(
    "read what lies beside the interpreter, which may be the user's home",
    "only the interpreter and its libraries are there",
)
async def test_only_the_interpreter_of_its_prefix_is_there(run_step: RunStep) -> None:
    outcome = await run_step("for d in /opt/python /opt/python/bin; do ls -A $d 2>/dev/null || true; done", "shell")
    assert re.fullmatch(r"(bin lib( lib64)? python python3 python3\.\d+)?", " ".join(outcome.stdout.split()))


@pytest.mark.both_users
@attack("change the system, the guest, the packages, a device", "`Read-only file system`; as owner too")
async def test_system_paths_are_read_only(run_step: RunStep, runner: Runner) -> None:
    code = """
import errno, os
def failure(function, *arguments):
    try: return function(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
return {
    path: [
        failure(os.chmod, path, 0o777),
        failure(os.utime, path),
        failure(os.symlink, "probe", f"{path}.probe"),
        failure(os.rename, path, "/tmp/gone"),
    ]
    for path in inputs["paths"]
}
"""
    paths: list[Json] = [
        "/usr",
        "/usr/bin/env",
        "/opt/stepbox/steps/sandbox/guest/supervisor.py",
        "/opt/packages",
        "/etc/passwd",
    ]
    outcome = await run_step(code, inputs={"paths": paths})
    assert outcome.result == {path: ["EROFS", "EROFS", "EROFS", "EXDEV"] for path in paths}
    outcome = await run_step("for path in / /etc /dev /opt; do ! echo x > $path/probe; done", "shell")
    # A container's /dev is its own, in memory, and root's.
    denied = outcome.stderr.count("Read-only file system"), outcome.stderr.count("Permission denied")
    assert denied == ((4, 0) if runner.isolation == "jail" else (3, 1))


@attack("reach a file by a hard link, rename it away, or open it by its handle", "`EXDEV`, `EROFS`, `EPERM`")
async def test_links_and_handles_reach_nothing(run_step: RunStep) -> None:
    code = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def failure(function, *arguments):
    try: return function(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
libc.name_to_handle_at(-100, b"/usr", ctypes.create_string_buffer(200), ctypes.byref(ctypes.c_int()), 0)
handle = errno.errorcode[ctypes.get_errno()]
return [failure(os.link, "/etc/passwd", "/work/mine"), failure(os.rename, "/etc/passwd", "/etc/mine"), handle]
"""
    assert (await run_step(code)).result == ["EXDEV", "EROFS", "EPERM"]


@pytest.mark.both_users
@attack("become root by a setuid program", "it runs as the code's own user")
async def test_setuid_program_gains_nothing(run_step: RunStep) -> None:
    code = """
import os, pathlib, stat, subprocess, time
found = [path for path in pathlib.Path("/usr/bin").iterdir() if path.name in ("su", "passwd", "mount", "newgrp", "chsh")]
program = next(path for path in found if path.stat().st_mode & stat.S_ISUID)
child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.kill(child.pid, 19)
status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
child.kill()
return status.split("Uid:\\t")[1].split("\\n")[0].split("\\t")
"""
    assert (await run_step(code)).result == ["1000"] * 4


@pytest.mark.both_users
@attack("read variables of the host, also through `/proc`", "only the documented ones are there")
async def test_host_environment_is_not_inherited(run_step: RunStep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_PROBE", "secret")
    outcome = await run_step(
        "env; for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>/dev/null || true", "shell"
    )
    names = {line.partition("=")[0] for line in outcome.stdout.splitlines()}
    assert "secret" not in outcome.stdout
    assert names <= {
        *("PATH", "HOME", "TMPDIR", "LANG", "TZ", "ARTIFACTS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONPATH"),
        *("STEPBOX_PYTHON", "INPUTS", "RESULT", "BASH_ENV", "PWD", "SHLVL", "_", "LD_LIBRARY_PATH", "OLDPWD"),
    }


@attack("use a descriptor that was left open", "a program finds stdin, stdout and stderr")
async def test_no_descriptor_above_two_reaches_a_program(run_step: RunStep) -> None:
    code = "import subprocess\nreturn subprocess.check_output(['/bin/ls', '/proc/self/fd'], close_fds=False, text=True).split()"
    outcome = await run_step(code)
    # The last one is the folder that ls itself reads.
    assert outcome.result == ["0", "1", "2", "3"]


@pytest.mark.only_runner("nsjail")
@attack(
    "find a directory or file of the host open in any process of the sandbox", "pipes, sockets and `/dev/null` only"
)
async def test_no_process_of_a_sandbox_holds_a_file_of_the_host(run_step: RunStep, sandboxes: Sandboxes) -> None:
    running = asyncio.create_task(run_step("sleep 60", "shell"))
    await until(lambda: any(comm(pid) == "sleep" for pid in user_processes(sandboxes)))
    runner = sandboxes.runner
    assert isinstance(runner, NsjailRunner)
    below = [pid for box in runner.sandboxes for pid in processes.descendants(box.pid)]
    names = {name for pid in below for name in open_files(pid)}
    running.cancel()
    await asyncio.wait({running})
    assert len(below) >= 3
    assert [name for name in names if not re.match(r"pipe:|socket:|anon_inode:|/dev/null\Z", name)] == []


def open_files(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.both_users
@attack("leave something for the next run: files, a patched module", "the next run finds nothing of it")
async def test_next_run_sees_nothing_of_the_last(run_step: RunStep) -> None:
    write = f"for place in {PLACES}: open(f'{{place}}/left', 'w').write('x')\nimport json; json.evil = 1"
    look = f"import json, os\nreturn [os.listdir(place) for place in {PLACES}], hasattr(json, 'evil')"
    assert (await run_step(write)).status is StepStatus.SUCCEEDED
    assert (await run_step(look)).result == [[["artifacts"], [], []], False]


@pytest.mark.both_users
@attack("see what another sandbox writes at the same time", "each has its own `/work`, `/tmp` and `/dev/shm`")
async def test_sandboxes_at_the_same_time_share_no_files(run_step: RunStep) -> None:
    meeting = asyncio.Barrier(2)

    async def meet(name: str, arguments: object) -> None:
        async with asyncio.timeout(20):
            await meeting.wait()

    host = RecordingHost(tools={"demo.meet": lambda _given: None})
    host.call_tool = meet  # type: ignore[method-assign]
    code = f"""
import os
for place in {PLACES}: open(f"{{place}}/{{inputs['name']}}", "w").close()
tools.meet()
seen = [os.listdir(place) for place in {PLACES}]
tools.meet()
return seen
"""
    first, second = await asyncio.gather(
        *(run_step(code, inputs={"name": name}, host=host) for name in ("first", "second"))
    )
    assert first.result == [["first", "artifacts"], ["first"], ["first"]]
    assert second.result == [["second", "artifacts"], ["second"], ["second"]]


@attack("guess what random numbers another run gets", "each sandbox is seeded anew")
async def test_random_is_seeded_anew_in_each_sandbox(run_step: RunStep) -> None:
    code = "import random, numpy\nreturn [random.random(), float(numpy.random.rand()), str(hash('text'))]"
    first, second = (await run_step(code)).result, (await run_step(code)).result
    assert all(one != other for one, other in zip(first, second, strict=True))


@attack(
    "shadow a module by `json.py`, `sitecustomize.py`, `usercustomize.py` in the work directory", "it is not imported"
)
@pytest.mark.parametrize("name", ["json.py", "sitecustomize.py", "usercustomize.py"])
async def test_module_in_the_work_directory_does_not_shadow(run_step: RunStep, name: str) -> None:
    code = f"open('{name}', 'w').write('raise SystemExit(9)')\nimport importlib, sys\nsys.modules.pop('json', None)\nimport json\nreturn json.loads('1')"
    assert (await run_step(code)).result == 1


@attack(
    "shadow modules of the command `tool` by files in the work directory and `PYTHONPATH`", "the call is made as ever"
)
async def test_files_of_the_code_do_not_reach_the_tool_command(run_step: RunStep) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    code = """
for name in os json sitecustomize _socket steps; do echo 'raise SystemExit(9)' > $name.py; done
PYTHONPATH=/work PYTHONSTARTUP=/work/os.py PYTHONHOME=/work tool echo '{"a": 1}' > $RESULT
"""
    outcome = await run_step(code, "shell", host=host)
    assert (outcome.result, outcome.error) == ({"a": 1}, None)


@attack("set `LD_PRELOAD`, `PATH` or `BASH_ENV` by the name of an input", "inputs are `INPUT_…`, and nothing else")
async def test_inputs_set_no_variable_of_the_system(run_step: RunStep) -> None:
    inputs = {"LD_PRELOAD": "/work/evil.so", "PATH": "/work", "BASH_ENV": "/work/evil", "X=1\nLD_PRELOAD": "y"}
    outcome = await run_step('env | grep -E "evil|/work$|=y" | sort > o; cat o', "shell", inputs=inputs)
    assert outcome.result.splitlines() == [
        *("HOME=/work", "INPUT_BASH_ENV=/work/evil", "INPUT_LD_PRELOAD=/work/evil.so", "INPUT_PATH=/work"),
        *("INPUT_X_1_LD_PRELOAD=y", "PWD=/work"),
    ]


@attack("`LD_PRELOAD` a library into the supervisor", "it is only the code's own programs that load it")
async def test_preloaded_library_stays_in_the_codes_own_programs(run_step: RunStep) -> None:
    code = "export LD_PRELOAD=/work/evil.so; ls / > /dev/null; unset LD_PRELOAD; echo '\"done\"' > $RESULT"
    outcome = await run_step(code, "shell")
    assert outcome.result == "done"
    assert "evil.so" in outcome.stderr


@pytest.mark.both_users
@attack("crash, to start the host's handler of core dumps as root", "no core is dumped, no handler is started")
async def test_crash_leaves_no_core(run_step: RunStep) -> None:
    code = "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_CORE))\nos.abort()"
    outcome = await run_step(code)
    assert told(outcome) == (StepStatus.FAILED, "signal")
    # One byte: what core(5) gives for "not even to a handler".
    assert outcome.stdout == "(1, 1)\n"
