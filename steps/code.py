"""Steps of code: ``python``, ``javascript`` and ``shell``, each executed in a sandbox of its own."""

from typing import Literal

from pydantic import Field

from flows.model import Config, StepConfig
from flows.values import ByteSize, Duration, Json

class LimitsConfig(Config):
    """What a step's code may use up; left out: the default of the language (see steps/sandbox/limits.py)."""

    timeout: Duration | None = None
    memory: ByteSize | None = None
    cpu: float | None = Field(default=None, gt=0)
    pids: int | None = Field(default=None, ge=1)
    disk: ByteSize | None = None
    output: ByteSize | None = None
    tool_calls: int | None = Field(default=None, ge=0)
    requests: int | None = Field(default=None, ge=0)


class Allow(Config):
    """Hosts that the code may reach."""

    allow: list[str]


class CodeFile(Config):
    """Code kept beside the flow: the path, relative to the flow's own file, and (filled by the loader) its text."""

    file: str
    source: str = ""


class CodeStep(StepConfig):
    """What the three languages share."""

    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    network: Literal["none", "full"] | Allow = "none"
    tools: list[str] = Field(default_factory=list)
    """Full names of the tools that the code may call; nothing else exists for it."""
    returns: dict[str, Json] | None = None
    """A JSON Schema that the result must match."""
    files: list[str] = Field(default_factory=list)
    """Artifacts of earlier steps to put into the work directory."""
    secrets: list[str] = Field(default_factory=list)
    """Names of the secrets given to the code as environment variables."""


class PythonStep(CodeStep):
    """The body of a Python function, or a module with a ``main``."""

    python: str | CodeFile


class JavaScriptStep(CodeStep):
    """The body of an async JavaScript or TypeScript function."""

    javascript: str | CodeFile


class ShellStep(CodeStep):
    """A bash script."""

    shell: str | CodeFile
