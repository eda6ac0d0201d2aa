"""A Dockerfile that nobody has reviewed: what of it may be built, written anew so that just that is built.

The Engine downloads what ``ADD`` names by a URL by itself, past every network policy, so there is no ``ADD`` here, and
none that a base image brings along by ``ONBUILD``; nor is there a ``COPY`` from an image that is no stage, which it
would pull. The images to start from are replaced by their ids, so that those are used which were looked at.
"""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dockerfile_parse import DockerfileParser
from dockerfile_parse.constants import COMMENT_INSTRUCTION

from steps.tools.contract import InvalidArgumentsError

_KNOWN: Final = frozenset(
    {
        *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
        *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    }
)
_FROM: Final = re.compile(r"(\S+)(?:\s+AS\s+([a-z][a-z0-9-_.]*))?", re.IGNORECASE)
_DIRECTIVE: Final = re.compile(r"\s*#\s*(escape|syntax)\s*=", re.IGNORECASE)
_HEREDOC: Final = re.compile(r"(?:^|\s)\d*<<-?[^\s<]")
_FLAG: Final = re.compile(r"--[a-z]+(?:=[^\s\"'\\]*)?")
_FROM_FLAG: Final = "--from"
_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,399}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_EMPTY: Final = "scratch"
_STAGE_FIRST: Final = "begin a stage with the image, `FROM image:tag AS name`, and copy from that"


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction, on one line. ``line`` counts from 1."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage starts from: an image, or an earlier stage or nothing. ``line`` as of its FROM."""

    start: str
    from_image: bool
    name: str | None
    line: int

    def text(self, ids: Mapping[str, str]) -> str:
        """What stands after FROM, with the image's id."""
        start = ids[self.start] if self.from_image else self.start
        return f"{start} AS {self.name}" if self.name else start


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """The instructions of a Dockerfile, and its stages."""

    instructions: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    @property
    def bases(self) -> tuple[str, ...]:
        """The images to start from, each once."""
        return tuple(dict.fromkeys(stage.start for stage in self.stages if stage.from_image))

    def text(self, ids: Mapping[str, str]) -> str:
        """It as it is given to the Engine, starting from images by their ids: an instruction a line."""
        stages = iter(self.stages)
        values = (next(stages).text(ids) if each.name == "FROM" else each.value for each in self.instructions)
        return "".join(f"{each.name} {value}\n" for each, value in zip(self.instructions, values, strict=True))


def parse(text: str, build_args: Mapping[str, str]) -> Dockerfile:
    """Read a Dockerfile.

    Raises:
        InvalidArgumentsError: it isn't one, or has what isn't taken; the message names the line.
    """
    if _CONTROL.search(text):
        raise InvalidArgumentsError("the Dockerfile holds control characters", fix="remove them")
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()), env_replace=False, build_args=dict(build_args))
    structure: Sequence[Mapping[str, Any]] = parser.structure
    covered: set[int] = set()
    instructions = []
    for found in structure:
        covered.update(range(found["startline"], found["endline"] + 1))
        if found["instruction"] != COMMENT_INSTRUCTION:
            each = Instruction(name=found["instruction"], value=found["value"].strip(), line=found["startline"] + 1)
            check(each.name, each.value, f"line {each.line}")
            instructions.append(each)
    for number, line in enumerate(text.split("\n")):
        if _DIRECTIVE.match(line):
            raise _refused(f"line {number + 1}", "directives (`# escape=`, `# syntax=`) aren't taken", "remove it")
        if line.strip() and number not in covered:
            raise _refused(f"line {number + 1}", f"`{line.strip()[:50]}` is no instruction", "complete it")
    stages = _stages(instructions, parser.parent_images)
    if not stages:
        raise InvalidArgumentsError("the Dockerfile starts from no image", fix="begin it with `FROM image:tag`")
    for each in instructions:
        _check_source(each, stages)
    return Dockerfile(instructions=tuple(instructions), stages=stages)


def check(name: str, value: str, where: str) -> None:
    """Refuse an instruction that isn't taken; ``where`` it is, for the message.

    Raises:
        InvalidArgumentsError: it isn't.
    """
    if name == "ADD":
        raise _refused(where, "ADD isn't taken: the Engine would fetch what it names past every policy", "use COPY")
    if name not in _KNOWN:
        raise _refused(where, f"there is no instruction {name[:30]}", "see the reference of Dockerfiles")
    if name == "ONBUILD":
        later, rest = (*value.split(maxsplit=1), "", "")[:2]
        check(later.upper(), rest.strip(), where)
        if later.upper() == "COPY" and any(flag.startswith(_FROM_FLAG) for flag in _flags(rest)):
            raise _refused(where, "COPY --from isn't taken in ONBUILD", _STAGE_FIRST)
    if name in {"RUN", "COPY"} and _HEREDOC.search(value):
        raise _refused(where, "here-documents aren't taken", "give the text as a file, or use several lines with `\\`")
    if name == "COPY" and (odd := [flag for flag in _flags(value) if not _FLAG.fullmatch(flag)]):
        raise _refused(where, f"{odd[0][:80]} is no option", "write it as --name=value, in small letters, unquoted")
    if value.endswith("\\"):
        raise _refused(where, "the line is to be continued, and isn't", "remove the last `\\`")


def _stages(instructions: Sequence[Instruction], images: Sequence[str]) -> tuple[Stage, ...]:
    found: list[Stage] = []
    written = [each for each in instructions if each.name == "FROM"]
    for number, each in enumerate(written):
        match = _FROM.fullmatch(each.value)
        start = images[number] if len(images) == len(written) else ""
        if match is None or not _REFERENCE.fullmatch(start):
            what = f"`FROM {each.value[:80]}` can't be read"
            raise _refused(f"line {each.line}", what, "write `FROM image:tag` or `FROM image:tag AS name`")
        earlier = {stage.name.lower() for stage in found if stage.name}
        from_image = start.lower() not in earlier and start != _EMPTY
        found.append(Stage(start=start, from_image=from_image, name=match[2], line=each.line))
    return tuple(found)


def _check_source(each: Instruction, stages: Sequence[Stage]) -> None:
    """Refuse a COPY from anything but an earlier stage: the Engine would pull an image of that name."""
    if each.name != "COPY":
        return
    begun = [stage for stage in stages if stage.line < each.line]
    # The last one is the stage that it stands in.
    earlier = {*map(str, range(len(begun) - 1)), *(stage.name.lower() for stage in begun[:-1] if stage.name)}
    for flag in _flags(each.value):
        if flag.startswith(_FROM_FLAG) and flag.partition("=")[2].lower() not in earlier:
            raise _refused(f"line {each.line}", f"{flag[:80]} names no earlier stage", _STAGE_FIRST)


def _flags(value: str) -> list[str]:
    return list(itertools.takewhile(lambda word: word.startswith("--"), value.split()))


def _refused(where: str, message: str, fix: str) -> InvalidArgumentsError:
    return InvalidArgumentsError(f"Dockerfile, {where}: {message}", fix=fix)
