"""What the steps of a flow are and may do, as the audit tells it."""

from collections.abc import Sequence
from hashlib import sha256

from flows.definition import Definition
from flows.model import StepConfig
from flows.values import Json
from steps.code import CodeStep
from steps.sandboxed import SandboxConfig
from steps.tool import ToolStep


def granted(definition: Definition) -> Sequence[dict[str, Json]]:
    """For each step its kind, the SHA-256 of its code, and what it may use; without what is not there."""
    return [{"step": name, "kind": definition.kinds[name], **_of_step(step)} for name, step in definition.steps.items()]


def _of_step(step: StepConfig) -> dict[str, Json]:
    if isinstance(step, ToolStep):
        return {"tools": [step.tool]}
    if not isinstance(step, SandboxConfig):
        return {}
    found: dict[str, Json] = {"tools": list(step.tools), "secrets": list(step.secrets)}
    found["network"] = step.network if isinstance(step.network, str) else list(step.network.allow)
    if isinstance(step, CodeStep):
        found["code"] = sha256(step.source.encode()).hexdigest()
    return {key: value for key, value in found.items() if value and value != "none"}
