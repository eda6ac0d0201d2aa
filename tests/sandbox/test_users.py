"""The same promises for an ordinary user, who can't write cgroups, and for a checkout that only root can reach."""

import asyncio
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steps.sandbox import interpreter
from steps.sandbox.jail import base_interpreter
from steps.sandbox.mounts import is_public
from tests.sandbox.conftest import RunStep, one_package
from tests.sandbox.docker.tls import forward
from tests.sandbox.runners import docker_endpoint

ROOT = Path(__file__).parents[2]
ORDINARY_UID = 12345
MARKED = "both_users or ordinary_user"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


OTHER_TESTS = [str(path) for path in sorted(Path(__file__).parent.glob("test_*.py")) if path != Path(__file__)]


@pytest.fixture
def home_of_ordinary_user() -> Iterator[Path]:
    """Not below tmp_path, which only the user of pytest can reach."""
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, ORDINARY_UID, ORDINARY_UID)
        yield Path(home)


@as_root
@pytest.mark.timeout(400)
async def test_an_ordinary_user_gets_the_same(tmp_path: Path, home_of_ordinary_user: Path) -> None:
    """Runs what is marked for it as a user without privileges, in a world where that user can reach Python."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", MARKED]
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", public_world(tmp_path / "world"), "sh"),
        *("setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups", "--bounding-set=-all"),
        *("env", f"HOME={home_of_ordinary_user}", "PYTHONDONTWRITEBYTECODE=1", *command, *OTHER_TESTS),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-5000:]


def public_world(place: Path) -> str:
    """A script that makes every directory private to root, on the way to Python, one that all may traverse."""
    needed = {base_interpreter().parent.parent, ROOT, Path(sys.prefix)}
    private = {source: place / str(number) for number, source in enumerate(sorted(needed)) if not is_public(source)}
    tops = {next(path for path in reversed(one.parents) if not path.stat().st_mode & 0o001) for one in private}
    lines = [
        "set -e",
        *(f"mkdir -p '{kept}' && mount --bind '{source}' '{kept}'" for source, kept in private.items()),
        *(f"mount -t tmpfs -o mode=0755 none '{top}'" for top in sorted(tops)),
        *(f"mkdir -p '{source}' && mount --bind '{kept}' '{source}'" for source, kept in private.items()),
        'exec "$@"',
    ]
    return "\n".join(lines)


@as_root
async def test_an_ordinary_user_builds_the_interpreter_in_their_own_home(
    tmp_path: Path, home_of_ordinary_user: Path
) -> None:
    """Where Stepbox's own environment is another's, and has no interpreter of steps."""
    code = """
import asyncio, sys
from pathlib import Path
from steps.sandbox import interpreter
from steps.sandbox.limits import default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job

class Host:
    async def log(self, stream, line): pass

async def main():
    interpreter.LOCK = Path(sys.argv[1])
    print(await interpreter.ensure())
    pool = Sandboxes(NsjailRunner())
    job = Job(language="python", code="import tiny; return tiny.answer", inputs={}, limits=default_limits("python"))
    outcome = await pool.execute(job, Host())
    print(outcome.result, outcome.error)
    await pool.close()

asyncio.run(main())
"""
    lock = one_package(home_of_ordinary_user / "lock")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", public_world(tmp_path / "world"), "sh"),
        *("setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups", "--bounding-set=-all"),
        *("env", f"HOME={home_of_ordinary_user}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-c", code, str(lock)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    lines = told.decode().splitlines()
    assert lines[0].startswith(f"{home_of_ordinary_user}/.local/share/stepbox/guest-"), told.decode()
    assert lines[1:] == ["42 None"]


@as_root
async def test_an_installation_in_a_private_home_works_for_root(tmp_path: Path) -> None:
    """Copies the sandbox's own code below a directory that only root may enter, and runs a step from there."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for package in ("flows", "steps"):
        shutil.copytree(ROOT / package, private / package)
    code = """
import asyncio
from steps.sandbox.limits import default_limits
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job
import steps

class Host:
    async def log(self, stream, line): pass

async def main():
    pool = Sandboxes(NsjailRunner())
    for language, text in {"python": "return 1", "javascript": "return 1", "shell": "echo 1 > $RESULT"}.items():
        outcome = await pool.execute(Job(language=language, code=text, inputs={}, limits=default_limits(language)), Host())
        print(steps.__file__, outcome.result)
    await pool.close()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        cwd=private,
        env={**os.environ, "PYTHONPATH": str(private)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert told.decode().split() == [f"{private}/steps/__init__.py", "1"] * 3


@as_root
async def test_an_ordinary_user_who_may_use_an_engine_gets_containers(
    tmp_path: Path, home_of_ordinary_user: Path
) -> None:
    """Their memory and processor time are told as well: everybody may read a container's counters."""
    code = """
import asyncio, sys
from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.limits import default_limits
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Job

class Host:
    async def log(self, stream, line): pass

async def main():
    pool = Sandboxes(DockerRunner(Endpoint(url=sys.argv[1])))
    for code in ("return 42", "import os\\nif os.fork() == 0: bytearray(b'x') * 10**9\\nimport time; time.sleep(60)"):
        job = Job(language="python", code=code, inputs={}, limits=default_limits("python"))
        outcome = await pool.execute(job, Host())
        print(outcome.status.value, outcome.result, outcome.peak_memory > 1_000_000)
    await pool.close()

asyncio.run(main())
"""
    socket = docker_endpoint().socket
    assert socket is not None
    async with forward(socket, None) as port:
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", public_world(tmp_path / "world"), "sh"),
            *("setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups", "--bounding-set=-all"),
            *("env", f"HOME={home_of_ordinary_user}", "PYTHONDONTWRITEBYTECODE=1"),
            *(sys.executable, "-c", code, f"tcp://127.0.0.1:{port}"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
    assert told.decode().splitlines() == ["succeeded 42 True", "out_of_memory None True"]


async def test_interpreter_of_steps_is_built_for_this_python(run_step: RunStep) -> None:
    environment = await interpreter.ensure()
    outcome = await run_step("import sys\nreturn '.'.join(map(str, sys.version_info[:2]))")
    assert outcome.result == sysconfig.get_python_version()
    assert interpreter.find() == environment
