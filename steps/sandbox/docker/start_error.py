"""Why the command of an image could not be started, from what the Engine's runtime says."""

import re

from flows.contracts import StepError
from flows.errors import RefusedError
from steps.sandbox.protocol import ContainerCommand

SHELL = "/bin/sh"
_MISSING = re.compile(r"no such file or directory|executable file not found")
_WRONG_FORMAT = re.compile(r"(?:standard_init_linux\.go:\d+: )?exec (?:user process caused|\S+): exec format error")
_NO_DIRECTORY = re.compile(r"chdir to cwd|mkdir .*: not a directory|cwd.*not a directory")


def why_not_started(refused: RefusedError, command: ContainerCommand) -> StepError | None:
    """The reason, where it is the image's or the step's own; None: the Engine's."""
    told, image = refused.message, command.reference
    if _NO_DIRECTORY.search(told):
        return StepError(
            code="directory_unusable",
            message=f"{image} starts its command in {command.directory} (WORKDIR), which user 1000 can't enter",
            fix="write the command under `run:`, which starts in /work, or let the image's WORKDIR be readable",
        )
    if f'exec: "{command.command[0]}"' in told:
        return _not_executed(told, command.command[0], image)
    return None


def why_not_run(stderr: str, command: ContainerCommand) -> StepError | None:
    """The reason why a command that was started never ran, which the Engine's runtime prints in its place."""
    if not _WRONG_FORMAT.fullmatch(stderr.strip()):
        return None
    return StepError(
        code="wrong_platform",
        message=f"{command.command[0]} of {command.reference} is no program for the Docker Engine's kind of machine",
        fix="use an image for the Engine's platform; a script needs a first line such as #!/bin/sh",
    )


def _not_executed(told: str, program: str, image: str) -> StepError | None:
    if "permission denied" in told:
        return StepError(
            code="command_not_executable",
            message=f"{image} doesn't let user 1000 execute {program}",
            fix="make it executable for everybody in the image, or name another program by `entrypoint:`",
        )
    if not _MISSING.search(told):
        return None
    if program == SHELL:
        return StepError(
            code="no_shell",
            message=f"{image} has no {SHELL}, which `run` needs",
            fix="write the command under `args:`, and its program under `entrypoint:` if it isn't the image's own",
        )
    return StepError(
        code="command_not_found",
        message=f"{image} has no program {program}",
        fix="correct `args:`, or name a program of the image by `entrypoint:`",
    )
