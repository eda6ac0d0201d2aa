"""From the text of a flow to its definition, or to all of its problems at once."""

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from flows.assembly import Assembly, assemble
from flows.contracts import Catalogue, Finding, Registry
from flows.definition import Definition
from flows.document import Defect, Document, Mark, Path, value_at
from flows.errors import InvalidFlowError, Problem
from flows.model import Defaults, Flow, StepConfig
from flows.reader import read_document
from flows.values import Json

MAX_FILE = 1_000_000
"""Bytes of one file beside the flow."""


def load(
    text: bytes | str, *, path: str, registry: Registry, catalogue: Catalogue, read: Callable[[str], bytes]
) -> Definition:
    """Read a flow and check it in full.

    ``path`` is what problems call the file. ``read`` gives the bytes of a file beside the flow by its path relative to
    the flow's directory, and may raise OSError.

    Raises:
        InvalidFlowError: something is wrong with the flow; it carries every problem found, in the order of the text.
    """
    document = read_document(text)
    if not document.complete:
        raise InvalidFlowError(_defect(defect, path) for defect in document.defects)
    files = _Files(read)
    assembly = assemble(document.value, registry, catalogue, files.text)
    problems = [_defect(defect, path) for defect in document.defects]
    problems += (_problem(finding, document, path) for finding in _distinct(assembly.findings))
    if problems or assembly.flow is None:
        raise InvalidFlowError(problems)
    return _definition(document, assembly, assembly.flow, files)


def places(findings: Iterable[Finding], text: str, path: str) -> Iterator[Problem]:
    """Findings, with paths from the whole flow on, as problems at their places in its text, which can be read."""
    document = read_document(text)
    return (_problem(finding, document, path) for finding in findings)


class _Files:
    """Reads each file once, and knows which files the flow uses."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self.texts: dict[str, str] = {}

    def text(self, name: str, path: Path) -> str | Finding:
        """The text of a file, by its path as written at ``path``; or why there is none."""
        parts = name.replace("\\", "/").split("/")
        if not name or name[0] in "/\\~" or ".." in parts or ":" in parts[0] or "\x00" in name:
            message = f"`{name[:200]}` is not a file in the directory of the flow"
            fix = "write a path from the directory of the flow on, such as ./step.py"
            return Finding(path=path, code="file_outside", message=message, fix=fix)
        normal = posixpath.normpath("/".join(parts))
        if normal in self.texts:
            return self.texts[normal]
        try:
            content = self._read(normal)
        except OSError as error:
            message = f"can't read `{name[:200]}`: {error.strerror or error}"
            return Finding(path=path, code="unreadable_file", message=message, fix="check the path and its rights")
        if len(content) > MAX_FILE:
            message = f"`{name[:200]}` is larger than {MAX_FILE:,} bytes"
            return Finding(path=path, code="code_too_large", message=message, fix="make it smaller")
        try:
            self.texts[normal] = content.decode("utf-8")
        except UnicodeDecodeError:
            message = f"`{name[:200]}` is not UTF-8"
            return Finding(path=path, code="invalid_utf8", message=message, fix="save the file as UTF-8")
        return self.texts[normal]


def _definition(document: Document, assembly: Assembly, flow: Flow, files: _Files) -> Definition:
    configs = {step.id: _effective(step, flow.defaults, assembly) for step in assembly.steps}
    flow = flow.model_copy(
        update={
            "steps": [configs[step.id] for step in flow.steps],
            "on_failure": [configs[step.id] for step in flow.on_failure],
            "finally_": [configs[step.id] for step in flow.finally_],
        }
    )
    return Definition(
        flow=flow,
        text=document.text,
        files=dict(files.texts),
        digest=_digest(document.text, files.texts),
        needs=assembly.needs,
        order=assembly.order,
        steps=configs,
        kinds={step.id: assembly.kinds[step.id].key for step in assembly.steps},
        trigger_kinds=assembly.trigger_kinds,
    )


def _effective(step: StepConfig, defaults: Defaults, assembly: Assembly) -> StepConfig:
    """The step with the flow's defaults where it says nothing itself."""
    kind = assembly.kinds[step.id]
    update: dict[str, Any] = {}
    if not kind.parks:
        for name in ("retry", "timeout"):
            if name not in step.model_fields_set and getattr(defaults, name) is not None:
                update[name] = getattr(defaults, name)
    if kind.limits is not None and assembly.limits is not None:
        own: Any = getattr(step, "limits", None)
        given = {name: getattr(own, name) for name in own.model_fields_set} if own is not None else {}
        update["limits"] = assembly.limits.model_copy(update=given)
    return step.model_copy(update=update) if update else step


def _digest(text: str, files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for part in (text, *(part for name in sorted(files) for part in (name, files[name]))):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _distinct(findings: Iterable[Finding]) -> Sequence[Finding]:
    seen: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.path, finding.code, finding.message, finding.line, finding.column), finding)
    return list(seen.values())


def _defect(defect: Defect, path: str) -> Problem:
    line, column = defect.mark.line, defect.mark.column
    return Problem(path=path, line=line, column=column, code=defect.code, message=defect.message, fix=defect.fix)


def _problem(finding: Finding, document: Document, path: str) -> Problem:
    mark = document.key_mark(finding.path) if finding.at == "key" else document.value_mark(finding.path)
    if finding.line is not None:
        value = _part(document.value, finding.path)
        if isinstance(value, Mapping) and isinstance(value.get("file"), str):
            path = posixpath.join(posixpath.dirname(path), posixpath.normpath(value["file"]))
            mark = Mark(line=finding.line, column=finding.column + 1)
        elif isinstance(value, str):
            lines = value.split("\n")[: finding.line - 1]
            offset = sum(len(line) + 1 for line in lines) + finding.column
            mark = document.offset_mark(finding.path, value, min(offset, max(len(value) - 1, 0)))
    return Problem(
        path=path, line=mark.line, column=mark.column, code=finding.code, message=finding.message, fix=finding.fix
    )


def _part(value: Json, path: Path) -> Json:
    try:
        return value_at(value, path)
    except KeyError:
        return None
