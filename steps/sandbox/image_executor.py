"""Executes the steps of ``image``: a command in a container of any image, beside a sandbox that serves it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flows.contracts import StepCall, StepResult
from flows.errors import RefusedError
from flows.model import StepConfig
from flows.values import Json
from steps.image import ImageStep
from steps.sandbox.executor import CodeExecutor, held_to, isolation_refusal, limits_of
from steps.sandbox.pool import Sandboxes, profile_of
from steps.sandbox.protocol import ContainerCommand, Job, Network

if TYPE_CHECKING:
    from steps.sandbox.docker.runner import DockerRunner

_UNKNOWN = ContainerCommand(reference="", image="", digest="", command=("",))


class ContainersUnavailableError(RefusedError):
    """A step of ``image`` where code doesn't run in containers."""

    code = "containers_unavailable"


class ImageExecutor(CodeExecutor):
    """Executes image steps (:class:`flows.contracts.StepExecutor`).

    ``containers`` is the runner of the sandboxes where that is Docker's; with any other every step is refused.
    Further arguments are those of :class:`CodeExecutor`.
    """

    def __init__(self, sandboxes: Sandboxes, containers: "DockerRunner | None", **settings: Any) -> None:
        super().__init__(sandboxes, **settings)
        self._containers = containers

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        step = _image_step(config)
        if self._containers is None:
            return ContainersUnavailableError(
                f"the image {step.image} needs a container, and code runs in the process jail here",
                fix="start a Docker Engine, run `stepbox images build`, and set STEPBOX_RUNNER=docker",
            )
        if (too_weak := isolation_refusal(self.isolation, self._min_isolation)) is not None:
            return too_weak
        if (refused := self._unavailable(step)) is not None:
            return refused
        network = self._network(step) is not None
        refused = await self._containers.command_refusal(limits_of(step, "shell"), step.runtime, network=network)
        if refused is None and step.pull == "never":
            refused = await self._containers.images.missing(step.image)
        return refused

    def expect(self, config: StepConfig, count: int) -> None:
        step = _image_step(config)
        self._sandboxes.expect(profile_of(self._job(step, {}, _UNKNOWN, self._network(step))), count)

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        step = _image_step(config)
        refused = await self.refusal(step)
        if refused is not None:
            raise refused
        assert self._containers is not None
        from steps.sandbox.docker.step_images import command_of  # noqa: PLC0415 - brings the docker SDK

        async def note(line: str) -> None:
            await call.log("stderr", line)

        found = await self._containers.images.get(step.image, step.pull, run=call.run_id, note=note)
        command = command_of(step.image, found, script=step.run, entrypoint=step.entrypoint, arguments=step.args)
        ceilings = await self._rules.ceilings(call.workspace)
        network = self._network(step, ceilings, call.workspace)
        return await self._result(step, held_to(self._job(step, call.inputs, command, network), ceilings), call)

    def _job(
        self,
        step: ImageStep,
        inputs: Mapping[str, Json],
        command: ContainerCommand,
        network: Network | None = None,
    ) -> Job:
        return Job(
            language="shell",
            code="",
            inputs=inputs,
            limits=limits_of(step, "shell"),
            filename=step.image,
            network=network,
            runtime=step.runtime,
            container=command,
        )


def _image_step(config: StepConfig) -> ImageStep:
    if not isinstance(config, ImageStep):
        raise TypeError(f"{type(config).__name__} is no step of an image")
    return config
