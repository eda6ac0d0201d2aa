"""Where a run finds the flows that its subflow steps name."""

from pathlib import Path
from typing import Final, Protocol

from engine.language import Language
from engine.records import Run
from engine.service import FlowDisabledError
from engine.store import Store
from flows.definition import Definition
from flows.errors import InvalidCallError
from flows.names import NAME


class MisnamedFlowError(InvalidCallError):
    """A file beside the flow that is called as the flow looked for, but holds another."""

    code = "misnamed_flow"


class FlowSource(Protocol):
    """Finds flows by name."""

    async def find(self, name: str) -> Definition | None:
        """The flow of that name, or None.

        Raises:
            InvalidFlowError: there is one, but it is not valid.
            FlowDisabledError: there is one, but it is disabled.
            MisnamedFlowError: its file holds another flow.
        """


class StoredFlows:
    """The latest versions that the store has."""

    def __init__(self, store: Store, language: Language, workspace: str) -> None:
        self._store = store
        self._language = language
        self._workspace = workspace

    async def find(self, name: str) -> Definition | None:
        """See :class:`FlowSource`."""
        detail = await self._store.flows.detail(name, workspace=self._workspace)
        if detail is None:
            return None
        if detail.state == "disabled":
            raise disabled(name)
        version = detail.version
        return self._language.load_stored(version.text, dict(version.files), path=f"{name} v{version.number}")


class _NoFlows:
    async def find(self, name: str) -> Definition | None:  # noqa: ARG002 - a FlowSource that has none
        return None


NO_FLOWS: Final[FlowSource] = _NoFlows()
"""Finds nothing."""


def disabled(name: str) -> FlowDisabledError:
    """Says that nothing starts the flow."""
    return FlowDisabledError(f"flow '{name}' is disabled", fix=f"enable it: stepbox flows enable {name}")


class UnrecordedFlowError(InvalidCallError):
    """A run of an older Stepbox, which didn't keep the versions of the flows that a run can start."""

    code = "unrecorded_flow"


class RecordedFlows:
    """The versions that a run had when it began of the flows that it can start."""

    def __init__(self, store: Store, language: Language, run: Run) -> None:
        self._store = store
        self._language = language
        self._run = run

    async def find(self, name: str) -> Definition | None:
        """See :class:`FlowSource`.

        Raises:
            UnrecordedFlowError: the run has no version of it.
        """
        version_id = self._run.subflows.get(name)
        if version_id is None:
            raise UnrecordedFlowError(
                f"run {self._run.id} doesn't say which version of flow '{name}' it starts",
                fix="run the flow again: an older Stepbox began this run",
            )
        version = await self._store.flows.get(version_id)
        return self._language.load_stored(version.text, dict(version.files), path=f"{name} v{version.number}")


class SiblingFlows:
    """``NAME.yaml`` beside the calling flow's file, and where there is none, what ``fallback`` has."""

    def __init__(self, directory: Path, language: Language, fallback: FlowSource) -> None:
        self._directory = directory
        self._language = language
        self._fallback = fallback

    async def find(self, name: str) -> Definition | None:
        """See :class:`FlowSource`."""
        if NAME.fullmatch(name):
            for suffix in (".yaml", ".yml"):
                path = self._directory / f"{name}{suffix}"
                if path.is_file():
                    return _called(name, self._language.load_file(path), path)
        return await self._fallback.find(name)


def _called(name: str, definition: Definition, path: Path) -> Definition:
    if definition.flow.flow != name:
        raise MisnamedFlowError(
            f"{path} holds the flow '{definition.flow.flow}'", fix=f"rename the file or the flow to {name}"
        )
    return definition
