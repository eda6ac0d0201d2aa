"""Which runner isolates the steps of this installation."""

from typing import Literal, assert_never

from flows.errors import RefusedError
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Runner

RunnerSetting = Literal["auto", "docker", "nsjail"]


class RunnerUnavailableError(RefusedError):
    """The runner that was asked for can't be had."""

    code = "runner_unavailable"


def choose(setting: RunnerSetting) -> Runner:
    """The runner for a setting. What it needs of the machine it checks when it starts its first sandbox.

    Raises:
        RunnerUnavailableError: this version doesn't have it.
    """
    match setting:
        case "auto" | "nsjail":
            return NsjailRunner()
        case "docker":
            raise RunnerUnavailableError(
                "this version of Stepbox has no docker runner yet", fix="set STEPBOX_RUNNER to auto or nsjail"
            )
        case _:
            assert_never(setting)
