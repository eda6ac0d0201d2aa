"""Steps of code: ``python``, ``javascript`` and ``shell``, each executed in a sandbox of its own."""

import ast
import warnings
from collections.abc import Iterator
from typing import Literal

from flows.contracts import Catalogue, Finding
from flows.model import CodeFile, StepConfig
from flows.templates import OPENING
from steps.sandbox.limits import Limits
from steps.sandboxed import Allow, LimitsConfig, SandboxConfig, check_sandboxed, named_steps

__all__ = [
    "Allow",
    "CodeFile",
    "CodeStep",
    "JavaScriptStep",
    "LimitsConfig",
    "PythonStep",
    "SandboxConfig",
    "ShellStep",
    "check_code",
    "named_steps",
]

_MAX_CODE = Limits().code


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
    """The code, or a mapping with ``file``."""

    @property
    def language(self) -> Literal["python"]:
        return "python"

    @property
    def code(self) -> str | CodeFile:
        return self.python


class JavaScriptStep(CodeStep):
    """The body of an async JavaScript or TypeScript function."""

    javascript: str | CodeFile
    """The code, or a mapping with ``file``."""

    @property
    def language(self) -> Literal["javascript"]:
        return "javascript"

    @property
    def code(self) -> str | CodeFile:
        return self.javascript


class ShellStep(CodeStep):
    """A bash script."""

    shell: str | CodeFile
    """The code, or a mapping with ``file``."""

    @property
    def language(self) -> Literal["shell"]:
        return "shell"

    @property
    def code(self) -> str | CodeFile:
        return self.shell


def check_code(config: StepConfig, catalogue: Catalogue) -> Iterator[Finding]:
    """What is wrong with a step of code, the syntax of Python included."""
    assert isinstance(config, CodeStep)
    yield from check_sandboxed(config, catalogue)
    if isinstance(config, JavaScriptStep) and config.files:
        message = "JavaScript has no file system, so it could not read them"
        fix = "read the files in a step of `python` or `shell`, and pass what is needed through `with:`"
        yield Finding(path=("files",), code="files_not_readable", message=message, fix=fix, at="key")
    path, source = (config.language,), config.source
    if not source.strip():
        yield Finding(path=path, code="empty_code", message="there is no code", fix="write some, or remove the step")
    elif (size := len(source.encode())) > _MAX_CODE:
        message = f"the code has {size:,} bytes, more than {_MAX_CODE:,}"
        yield Finding(path=path, code="code_too_large", message=message, fix="split the step")
    elif isinstance(config.code, CodeFile) and OPENING in source:
        before, _, _ = source.partition(OPENING)
        message = "an expression can't stand inside code, so that no value becomes code"
        fix = "pass the value through `with:` and read it from the inputs of the code"
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1)
        yield Finding(path=path, code="expression_not_allowed", message=message, fix=fix, line=line, column=column)
    elif isinstance(config, PythonStep) and OPENING not in source:
        yield from _python_syntax(source)


def _python_syntax(source: str) -> Iterator[Finding]:
    """Parsing, unlike compiling, lets ``return`` and ``await`` stand outside a function."""
    fix = "correct the Python here"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        line, column = error.lineno or 1, max((error.offset or 1) - 1, 0)
        message = f"the Python code doesn't compile: {error.msg}"
        yield Finding(path=("python",), code="invalid_python", message=message, fix=fix, line=line, column=column)
    except (MemoryError, RecursionError, ValueError, OverflowError):
        message = "the Python code is nested too deeply to compile"
        yield Finding(path=("python",), code="invalid_python", message=message, fix="split it up")
