"""Which triggers there are to start runs: those of the flows that are active."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel

from engine.deliveries import Recipient
from engine.language import Language
from engine.records import FlowVersion
from flows.definition import Definition
from flows.errors import InvalidFlowError
from flows.events import Event
from flows.model import TriggerConfig
from triggers.event.config import EventTrigger
from triggers.event.patterns import matches
from triggers.webhook.config import WebhookTrigger

_log = logging.getLogger(__name__)

Config = TypeVar("Config", bound=TriggerConfig)


class ActiveFlows(Protocol):
    """The flows whose triggers hold."""

    async def stamp(self) -> str:
        """Differs once any flow was applied, enabled, disabled or deleted, or there are other workspaces."""

    async def workspaces(self) -> Sequence[str]:
        """The names of all workspaces, whether or not they have flows."""

    async def versions(self) -> Sequence[FlowVersion]:
        """The current version of each, by name."""


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """A trigger in the flow version that holds it. ``kind`` is the key of its kind."""

    version: FlowVersion
    definition: Definition
    trigger: TriggerConfig
    kind: str

    @property
    def name(self) -> str:
        """``workspace/flow/trigger``, which no two share."""
        return f"{self.version.workspace}/{self.version.flow}/{self.trigger.id}"

    @property
    def origin(self) -> str:
        """Of the events that this trigger makes itself."""
        return f"{self.kind}:{self.version.flow}/{self.trigger.id}"

    @property
    def recipient(self) -> Recipient:
        """The trigger as one whom an event concerns."""
        return Recipient(flow=self.version.flow, flow_version_id=self.version.id, trigger_id=self.trigger.id)


class Subscriptions:
    """The triggers of the active flows, as they were when last refreshed."""

    def __init__(self, active: ActiveFlows, language: Language) -> None:
        """Know none yet: call :meth:`refresh`."""
        self._active = active
        self._language = language
        self._stamp: str | None = None
        self._all: tuple[Subscription, ...] = ()
        self._by_path: Mapping[tuple[str, str], Subscription] = {}
        self._loaded: dict[str, Definition | None] = {}
        self._workspaces: frozenset[str] = frozenset()

    async def refresh(self) -> bool:
        """Read the flows again where they have changed since the last time; whether they had."""
        stamp = await self._active.stamp()
        if stamp == self._stamp:
            return False
        found: list[Subscription] = []
        loaded: dict[str, Definition | None] = {}
        for version in await self._active.versions():
            definition = loaded[version.id] = self.load(version)
            if definition is not None:
                found += subscriptions_of(version, definition)
        self._all, self._loaded, self._stamp = tuple(found), loaded, stamp
        by_path: dict[tuple[str, str], Subscription] = {}
        for each in found:
            if isinstance(each.trigger, WebhookTrigger):
                taken = by_path.setdefault((each.version.workspace, each.trigger.webhook.path), each)
                if taken is not each:
                    _log.warning(
                        "webhook %s is that of %s, not of %s", each.trigger.webhook.path, taken.name, each.name
                    )
        self._by_path = by_path
        self._workspaces = frozenset(await self._active.workspaces())
        return True

    def load(self, version: FlowVersion) -> Definition | None:
        """The definition of a version; None, and a word in the log, where this Stepbox no longer takes it."""
        if version.id in self._loaded:
            return self._loaded[version.id]
        path = f"{version.flow} v{version.number}"
        try:
            return self._language.load_stored(version.text, dict(version.files), path=path)
        except InvalidFlowError as problem:
            _log.error("%s is no longer valid, its triggers start nothing: %s", path, problem)
            return None

    def counts(self) -> Mapping[str, int]:
        """How many flows have triggers, and how many of each kind there are."""
        flows = {(each.version.workspace, each.version.flow) for each in self._all}
        return {"flows": len(flows), **Counter(sorted(each.kind for each in self._all))}

    def of(self, config: type[Config]) -> Sequence[tuple[Subscription, Config]]:
        """The triggers of a kind, by its model."""
        return [(each, each.trigger) for each in self._all if isinstance(each.trigger, config)]

    def webhook(self, workspace: str, path: str) -> Subscription | None:
        """The webhook of a path; of two flows' the first's by name."""
        return self._by_path.get((workspace, path))

    def is_workspace(self, name: str) -> bool:
        """Whether there is a workspace of that name."""
        return name in self._workspaces

    def matching(self, workspace: str, event: Event) -> tuple[Subscription, ...]:
        """The ``event`` triggers whose pattern an event fits."""
        return tuple(
            each
            for each, trigger in self.of(EventTrigger)
            if each.version.workspace == workspace and matches(trigger.event, event)
        )


def subscriptions_of(version: FlowVersion, definition: Definition) -> list[Subscription]:
    """The triggers of one version."""
    return [
        Subscription(version=version, definition=definition, trigger=trigger, kind=definition.trigger_kinds[trigger.id])
        for trigger in definition.flow.triggers
    ]


def fingerprint(config: BaseModel) -> str:
    """Tells one configuration of a trigger from another: what a trigger remembers is of one configuration only."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
