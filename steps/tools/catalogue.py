"""The tools there are: the built-in ones in one table, and those of installed plug-ins."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from flows.contracts import ToolSpec
from flows.values import Json
from steps.tools import arguments as checking
from steps.tools.contract import InvalidArgumentsError, NotGrantedError, Tool, ToolContext, ToolError, UnknownToolError
from steps.tools.specs import event, files, http, image, workspace

ENTRY_POINTS: Final = "stepbox.tools"

_MODULES: Final = (
    (workspace.SPECS, "steps.tools.workspace"),
    (http.SPECS, "steps.tools.http_request"),
    (files.SPECS, "steps.tools.shared_files"),
    (image.SPECS, "steps.tools.image_build"),
    (event.SPECS, "steps.tools.event_emit"),
)


@dataclass(frozen=True, kw_only=True)
class BuiltInTool:
    """A tool of ours: the function of the tool's short name in ``module``, imported with the first call."""

    spec: ToolSpec
    module: str

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        function = getattr(import_module(self.module), self.spec.short_name)
        return await function(arguments, context)


BUILT_IN: Final[Mapping[str, BuiltInTool]] = {
    spec.name: BuiltInTool(spec=spec, module=module) for specs, module in _MODULES for spec in specs
}


class ToolCatalogue:
    """Implements :class:`flows.contracts.Catalogue`, and makes calls.

    A plug-in's tool is loaded when it is asked for. One that has the name of a built-in tool is refused.
    """

    def __init__(self, plug_ins: Iterable[EntryPoint] | None = None) -> None:
        """Offer the built-in tools and those of ``plug_ins``: left out, all that are installed."""
        self._given = plug_ins

    def names(self) -> tuple[str, ...]:
        """Full names, sorted."""
        return tuple(sorted({*BUILT_IN, *self._plug_ins}))

    def get(self, name: str) -> ToolSpec | None:
        """The tool of that full name, or None."""
        if name in BUILT_IN:
            return BUILT_IN[name].spec
        return self.tool(name).spec if name in self._plug_ins else None

    def tool(self, name: str) -> Tool:
        """The tool of that full name.

        Raises:
            UnknownToolError: there is none; the message names the closest one.
            ToolError: it is a plug-in's and can't be loaded.
        """
        if name in BUILT_IN:
            return BUILT_IN[name]
        if name not in self._plug_ins:
            raise self._unknown(name, self.names())
        entry = self._plug_ins[name]
        try:
            tool: Tool = entry.load()
        except Exception as error:
            raise ToolError(
                f"the plug-in {entry.value!r} of tool {name} can't be loaded: {error}", fix="repair or uninstall it"
            ) from error
        if tool.spec.name != name:
            raise ToolError(
                f"the plug-in {entry.value!r} is installed as {name} but calls itself {tool.spec.name}",
                fix="give its entry point the name of its spec",
            )
        return tool

    def resolve(self, name: str, granted: Collection[str] | None = None) -> str:
        """The full name that ``name`` stands for: itself, or the one of that short name (among ``granted``).

        Raises:
            UnknownToolError: no tool, or more than one, is called so.
            NotGrantedError: the tool exists but isn't among ``granted``.
        """
        everything = self.names()
        candidates = everything if granted is None else tuple(sorted(granted))
        if name in candidates and name in everything:
            return name
        found = [full for full in candidates if full.rpartition(".")[2] == name and full in everything]
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownToolError(f"{name!r} may be any of {', '.join(found)}", fix="write the full name")
        exists = [full for full in everything if name in {full, full.rpartition(".")[2]}]
        if exists:
            raise NotGrantedError(
                f"this step may not call {name}", fix=f"grant it in the step: tools: [{', '.join(exists)}]"
            )
        raise self._unknown(name, candidates)

    def check_arguments(self, spec: ToolSpec, arguments: Json) -> None:
        """Check arguments against the tool's schema.

        Raises:
            InvalidArgumentsError: they don't match; the message names every problem.
        """
        found = checking.problems(spec, arguments)
        if found:
            raise InvalidArgumentsError(
                f"{spec.name}: {'; '.join(found)}", fix=f"it takes {', '.join(spec.arguments.get('properties', {}))}"
            )

    async def call(
        self, name: str, arguments: Json, context: ToolContext, *, granted: Collection[str] | None = None
    ) -> Json:
        """Resolve, check and make a call.

        Raises:
            ToolError: it can't be made, or failed.
        """
        tool = self.tool(self.resolve(name, granted))
        self.check_arguments(tool.spec, arguments)
        return await tool.call(arguments, context)

    @cached_property
    def _plug_ins(self) -> Mapping[str, EntryPoint]:
        given = entry_points(group=ENTRY_POINTS) if self._given is None else self._given
        found: dict[str, EntryPoint] = {}
        for entry in given:
            if entry.name in BUILT_IN or entry.name in found:
                raise ToolError(
                    f"the plug-in {entry.value!r} offers a second tool called {entry.name}", fix="uninstall one of them"
                )
            found[entry.name] = entry
        return found

    def _unknown(self, name: str, candidates: Collection[str]) -> UnknownToolError:
        by_short_name = {full.rpartition(".")[2]: full for full in candidates}
        meant = checking.did_you_mean(name, [*candidates, *by_short_name])
        if meant:
            return UnknownToolError(
                f"there is no tool {name!r}", fix=f"did you mean {by_short_name.get(meant, meant)}?"
            )
        return UnknownToolError(
            f"there is no tool {name!r}", fix=f"there are {', '.join(candidates)}" if candidates else "grant it first"
        )
