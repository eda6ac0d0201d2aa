"""What a step can do: one module a kind.

``KINDS`` is the table of the built-in kinds: the language's side of each. What executes them is the engine's to build.
"""

from flows.contracts import StepKind
from steps.approval import ApprovalStep
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.image import ImageStep
from steps.subflow import SubflowStep
from steps.tool import ToolStep
from steps.wait import WaitStep

KINDS: tuple[StepKind, ...] = (
    StepKind(key="python", config=PythonStep),
    StepKind(key="javascript", config=JavaScriptStep),
    StepKind(key="shell", config=ShellStep),
    StepKind(key="image", config=ImageStep),
    StepKind(key="tool", config=ToolStep),
    StepKind(key="flow", config=SubflowStep),
    StepKind(key="approval", config=ApprovalStep),
    StepKind(key="wait", config=WaitStep),
)
