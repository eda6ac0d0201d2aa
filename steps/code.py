"""Steps of code: ``python``, ``javascript`` and ``shell``, each executed in a sandbox of its own."""

from typing import Literal

from pydantic import Field

from flows.model import Config, StepConfig
from flows.values import ByteSize, Duration, Json


class LimitsConfig(Config):
    """What a step's code may use up; left out: the default of the language (see steps/sandbox/limits.py)."""

    timeout: Duration | None = None
    """How long the code may run before it is stopped."""
    memory: ByteSize | None = None
    cpu: float | None = Field(default=None, gt=0)
    """Processors: 0.5 is half of one."""
    pids: int | None = Field(default=None, ge=1)
    """Processes and threads at once."""
    disk: ByteSize | None = None
    """Of the work directory, and the same of /tmp."""
    output: ByteSize | None = None
    """stdout and stderr together; what is beyond is dropped and marked."""
    tool_calls: int | None = Field(default=None, ge=0)
    requests: int | None = Field(default=None, ge=0)
    """Requests over the network."""


class Allow(Config):
    """Hosts that the code may reach."""

    allow: list[str]
    """Exact names, or ``*.example.org`` for every name below; each with an optional ``:port``. Empty: none."""


class CodeFile(Config):
    """Code kept beside the flow: the path, relative to the flow's own file, and (filled by the loader) its text."""

    file: str
    """Path relative to the directory of the flow; it can't leave it."""
    source: str = Field(default="", exclude=True)
    """Filled by the loader, never written in YAML."""


class SandboxConfig(StepConfig):
    """What every step that runs code in a sandbox has."""

    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    network: Literal["none", "full"] | Allow = "none"
    """What the code may reach: none, full, or a mapping with ``allow``."""
    tools: list[str] = Field(default_factory=list)
    """Full names of the tools that the code may call; nothing else exists for it."""
    returns: dict[str, Json] | None = None
    """A JSON Schema that the result must match."""
    files: list[str] = Field(default_factory=list)
    """Artifacts of earlier steps to put into the work directory, each as ``STEP/NAME``; ``STEP/*`` is all of them."""
    secrets: list[str] = Field(default_factory=list)
    """Names of the secrets given to the code as environment variables, in capitals."""


class CodeStep(SandboxConfig):
    """What the three languages share."""

    @property
    def language(self) -> Literal["python", "javascript", "shell"]:
        """The language of the code, which is the key of the step's kind."""
        raise NotImplementedError

    @property
    def code(self) -> str | CodeFile:
        """The code as the YAML has it: inline text, or a file."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """The text of the code, wherever it is kept."""
        code = self.code
        return code.source if isinstance(code, CodeFile) else code


class PythonStep(CodeStep):
    """The body of a Python function, or a module with a ``main``."""

    python: str | CodeFile

    @property
    def language(self) -> Literal["python"]:
        return "python"

    @property
    def code(self) -> str | CodeFile:
        return self.python


class JavaScriptStep(CodeStep):
    """The body of an async JavaScript or TypeScript function."""

    javascript: str | CodeFile

    @property
    def language(self) -> Literal["javascript"]:
        return "javascript"

    @property
    def code(self) -> str | CodeFile:
        return self.javascript


class ShellStep(CodeStep):
    """A bash script."""

    shell: str | CodeFile

    @property
    def language(self) -> Literal["shell"]:
        return "shell"

    @property
    def code(self) -> str | CodeFile:
        return self.shell
