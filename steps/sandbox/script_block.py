"""PEP 723 blocks: what a Python step says it needs, held against what Python steps have."""

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from flows.contracts import StepError
from steps.sandbox.interpreter import site_packages

_SCRIPT_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def missing_dependency(code: str, environment: Path | None) -> StepError | None:
    """What a PEP 723 block in the code asks for that the environment doesn't have; None: nothing."""
    found = list(_SCRIPT_BLOCK.finditer(code))
    if not found:
        return None
    line = code[: found[0].start()].count("\n") + 1
    text = "".join(
        row[2:] if row.startswith("# ") else row[1:] for row in found[0]["content"].splitlines(keepends=True)
    )
    try:
        wanted = tomllib.loads(text)
        python = SpecifierSet(wanted.get("requires-python", ""))
        requirements = [Requirement(item) for item in wanted.get("dependencies", [])]
    except (tomllib.TOMLDecodeError, InvalidRequirement, InvalidSpecifier, TypeError, AttributeError) as error:
        return StepError(code="invalid_script_block", message=f"the PEP 723 block is not valid: {error}", line=line)
    have = _installed(environment)
    for requirement in requirements:
        version = have.get(canonicalize_name(requirement.name))
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            return StepError(
                code="missing_dependency",
                message=f"the code asks for {requirement}, but a step has {version or 'no such package'}",
                line=line,
                fix=f"use what a step has: {', '.join(f'{name} {number}' for name, number in sorted(have.items()))}",
            )
    running = ".".join(map(str, sys.version_info[:3]))
    if running not in python:
        return StepError(
            code="missing_dependency",
            message=f"the code asks for Python {python}, but a step has {running}",
            line=line,
            fix="change requires-python, or run Stepbox with another Python",
        )
    return None


def _installed(environment: Path | None) -> dict[str, str]:
    if environment is None:
        return {}
    return {
        canonicalize_name(distribution.name): distribution.version
        for distribution in distributions(path=[str(site_packages(environment))])
        if distribution.name != "pip"
    }
