"""Whether steps find what they are promised, looked for where they run: in a sandbox."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping

from flows.errors import RefusedError
from steps.sandbox.doctor import errand
from steps.sandbox.doctor.check import Check
from steps.sandbox.protocol import Runner
from steps.sandbox.select import containers_of

COMMANDS: Mapping[str, str] = {
    "bash": "bash",
    "cat": "coreutils",
    "sort": "coreutils",
    "sha256sum": "coreutils",
    "timeout": "coreutils",
    "grep": "grep",
    "curl": "curl",
    "jq": "jq",
    "sed": "sed",
    "awk": "gawk",
    "find": "findutils",
    "xargs": "findutils",
    "diff": "diffutils",
    "tar": "tar",
    "gzip": "gzip",
    "git": "git",
}
"""The commands that shell steps are promised (docs/sandbox.md), with the package that has each."""
PACKAGES = ("requests", "pandas", "numpy", "httpx", "yaml")
"""The modules that Python steps are promised (docs/sandbox.md)."""

_INSTALLERS = {
    "apt-get": "apt-get install -y",
    "dnf": "dnf install -y",
    "yum": "yum install -y",
    "zypper": "zypper install -y",
    "apk": "apk add",
    "pacman": "pacman -S --noconfirm",
}
_FIND_COMMANDS = 'for name in $INPUT_NAMES; do [ -x "$(type -P "$name")" ] || printf "%s\\n" "$name"; done'
_FIND_PACKAGES = """
from importlib.util import find_spec
return [name for name in inputs["names"] if find_spec(name) is None]
"""

_READ_INPUTS = 'grep -o yes "$INPUTS" > there; read -r there < there; printf %s "$there"'

Which = Callable[[str], str | None]


async def commands(runner: Runner, which: Which = shutil.which) -> Check:
    """Look for the commands of shell steps; ``which`` finds this machine's package manager."""
    try:
        found = await errand.run(runner, "shell", _FIND_COMMANDS, {"names": " ".join(COMMANDS)})
    except (errand.ErrandFailedError, RefusedError) as problem:
        message = f"shell steps, which need bash, don't run: {problem}"
        return Check(id="commands", state="failed", message=message, fix=install(["bash"], which))
    missing = str(found).split()
    if not missing:
        return Check(id="commands", state="ok", message=f"shell steps find all of {len(COMMANDS)} commands")
    message = f"shell steps miss {', '.join(missing)}"
    return Check(id="commands", state="warning", message=message, fix=install(missing, which))


async def packages(runner: Runner, *, fix: str) -> Check:
    """Look for the modules of Python steps; ``fix`` is what builds their environment."""
    try:
        missing = await errand.run(runner, "python", _FIND_PACKAGES, {"names": list(PACKAGES)})
    except (errand.ErrandFailedError, RefusedError) as problem:
        return Check(id="packages", state="failed", message=f"Python steps don't run: {problem}", fix=fix)
    if not missing:
        return Check(id="packages", state="ok", message=f"{', '.join(PACKAGES)} are there")
    message = f"Python steps miss {', '.join(missing)}"
    return Check(id="packages", state="warning", message=message, fix=fix)


async def images(runner: Runner) -> Check:
    """Whether steps of ``image`` run, tried with the image of sandboxes as one of them."""
    containers = containers_of(runner)
    if containers is None:
        message = "steps of `image` are refused, since they need containers"
        fix = "where flows have such steps: start a Docker Engine, and run `stepbox images build`"
        return Check(id="images", state="warning", message=message, fix=fix)
    from steps.sandbox.docker.step_images import command_of  # noqa: PLC0415 - brings the docker SDK, slow to import

    try:
        found = await containers.images.get(containers.image, "never", run="", note=_ignore)
        command = command_of(containers.image, found, script=_READ_INPUTS, entrypoint=None, arguments=None)
        told = await errand.run(runner, "shell", "", {"there": "yes"}, command)
    except (errand.ErrandFailedError, RefusedError) as problem:
        message, fix = f"steps of `image` don't run: {problem}", "look at the Docker Engine's own log"
        return Check(id="images", state="failed", message=message, fix=fix)
    if told != "yes":
        message, fix = "steps of `image` don't find their inputs", "see that the Engine's driver `local` mounts tmpfs"
        return Check(id="images", state="failed", message=message, fix=fix)
    return Check(id="images", state="ok", message="steps of `image` run, in containers")


async def _ignore(_line: str) -> None:
    """Nobody listens."""


def install(names: Iterable[str], which: Which = shutil.which) -> str:
    """The command that installs the packages of commands here, or their names where the package manager is unknown."""
    wanted = " ".join(dict.fromkeys(COMMANDS[name] for name in names))
    for manager, command in _INSTALLERS.items():
        if which(manager) is not None:
            return f"{'' if os.geteuid() == 0 else 'sudo '}{command} {wanted}"
    return f"install the packages {wanted}"
