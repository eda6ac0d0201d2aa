"""Which runner isolates the steps of this installation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, assert_never

from flows.errors import RefusedError
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Runner

RunnerName = Literal["docker", "nsjail"]
RunnerSetting = Literal["auto", RunnerName]
RUNNERS: tuple[RunnerName, ...] = ("docker", "nsjail")
"""All of them, in the order in which ``auto`` prefers them."""


class RunnerUnavailableError(RefusedError):
    """The runner that was asked for can't be had."""

    code = "runner_unavailable"


def choose(setting: RunnerSetting, *, private: Sequence[Path] = ()) -> Runner:
    """The runner for a setting. What it needs of the machine it checks when it starts its first sandbox.

    ``private`` are directories that no code may see, wherever they lie.

    Raises:
        RunnerUnavailableError: this version doesn't have it.
    """
    match setting:
        case "auto" | "nsjail":
            return NsjailRunner(private)
        case "docker":
            raise RunnerUnavailableError(
                "this version of Stepbox has no docker runner yet", fix="set STEPBOX_RUNNER to auto or nsjail"
            )
        case _:
            assert_never(setting)


def name_of(runner: Runner) -> RunnerName:
    """The name by which a runner is chosen."""
    return "nsjail" if isinstance(runner, NsjailRunner) else "docker"
