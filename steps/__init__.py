"""What a step can do: one module a kind.

``KINDS`` is the table of the built-in kinds: the language's side of each. What executes them is the engine's to build.
"""

from flows.contracts import StepKind
from steps.approval import ApprovalStep, check_approval
from steps.code import JavaScriptStep, PythonStep, ShellStep, check_code
from steps.image import ImageStep, check_image
from steps.sandboxed import LimitsConfig, named_steps
from steps.subflow import SubflowStep, check_subflow, other_flow
from steps.tool import ToolStep, check_tool
from steps.wait import WIRING as WAIT_WIRING
from steps.wait import WaitStep, check_wait

KINDS: tuple[StepKind, ...] = (
    *(
        StepKind(
            key=key,
            config=config,
            check=check_code,
            references=named_steps,
            code=frozenset({key}),
            limits=LimitsConfig,
        )
        for key, config in (("python", PythonStep), ("javascript", JavaScriptStep), ("shell", ShellStep))
    ),
    StepKind(
        key="image",
        config=ImageStep,
        check=check_image,
        references=named_steps,
        code=frozenset({"image", "run", "args", "entrypoint"}),
        limits=LimitsConfig,
    ),
    StepKind(key="tool", config=ToolStep, check=check_tool, secrets=True),
    StepKind(key="flow", config=SubflowStep, check=check_subflow, flow=other_flow),
    StepKind(key="approval", config=ApprovalStep, check=check_approval, parks=True),
    StepKind(key="wait", config=WaitStep, check=check_wait, wiring=WAIT_WIRING, parks=True),
)
