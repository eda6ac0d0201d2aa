"""The kinds that definitions may use: the built-in tables, and what other distributions add by entry points."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TypeVar

from flows.contracts import Registry, StepKind, TriggerKind
from flows.errors import StepboxError
from flows.explanations import known_keys
from flows.model import StepConfig, TriggerConfig
from flows.names import NAME

STEP_GROUP = "stepbox.steps"
TRIGGER_GROUP = "stepbox.triggers"

_Kind = TypeVar("_Kind", StepKind, TriggerKind)


class BrokenPluginError(StepboxError):
    """A plug-in that can't be loaded or isn't a kind; the message names the distribution."""

    code = "broken_plugin"
    exit_status = 2


def registry(
    steps: Iterable[StepKind],
    triggers: Iterable[TriggerKind],
    *,
    plugins: Mapping[str, Iterable[EntryPoint]] | None = None,
) -> Registry:
    """The registry of the given kinds and of the installed plug-ins.

    An entry point of the group ``stepbox.steps`` or ``stepbox.triggers`` is named by the YAML key and leads to a
    :class:`StepKind` or :class:`TriggerKind`. ``plugins`` replaces the installed ones, by group.

    Raises:
        BrokenPluginError: a plug-in can't be imported, isn't a kind, or takes a key that is already there.
    """
    found = plugins if plugins is not None else {group: entry_points(group=group) for group in _GROUPS}
    return Registry(
        steps=_table(steps, found.get(STEP_GROUP, ()), StepKind, known_keys(StepConfig)),
        triggers=_table(triggers, found.get(TRIGGER_GROUP, ()), TriggerKind, known_keys(TriggerConfig)),
    )


_GROUPS = (STEP_GROUP, TRIGGER_GROUP)


def _table(
    built_in: Iterable[_Kind], plugins: Iterable[EntryPoint], kind: type[_Kind], common: tuple[str, ...]
) -> Mapping[str, _Kind]:
    table = {each.key: each for each in built_in}
    for key, added in _loaded(plugins, kind):
        if key in table or key in common or not NAME.fullmatch(key):
            raise BrokenPluginError(f"the plug-in key `{key}` is taken or not allowed", fix="uninstall one of the two")
        table[key] = added
    return MappingProxyType(table)


def _loaded(plugins: Iterable[EntryPoint], kind: type[_Kind]) -> Iterator[tuple[str, _Kind]]:
    for entry in plugins:
        owner = entry.dist.name if entry.dist is not None else entry.value
        try:
            loaded = entry.load()
        except Exception as error:
            message = f"the plug-in `{entry.name}` of {owner} can't be loaded: {type(error).__name__}: {error}"
            raise BrokenPluginError(message, fix=f"update or uninstall {owner}") from error
        if not isinstance(loaded, kind) or loaded.key != entry.name:
            message = f"the plug-in `{entry.name}` of {owner} is not a {kind.__name__} of that key"
            raise BrokenPluginError(message, fix=f"update or uninstall {owner}")
        yield entry.name, loaded
