"""``stepbox schema``: JSON Schemas, of flow files and of tools."""

from typing import Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.show import print_json


def schema(
    tool: Annotated[
        str | None, typer.Argument(metavar="TOOL", help="A tool, by its full name; `list` for all.")
    ] = None,
) -> None:
    """Print the JSON Schema of flow files, so that an editor completes and checks them; or what a tool takes and gives.

    Example: `stepbox schema > stepbox.schema.json`, and as the first line of a flow
    `# yaml-language-server: $schema=stepbox.schema.json`
    """

    def work() -> int:
        from engine.bootstrap import language
        from flows.suggestions import instead, listing

        spoken = language()
        if tool is None:
            from flows.schema import json_schema

            print_json(json_schema(spoken.registry))
        elif tool == "list":
            print_json(
                {name: spec.description for name in spoken.catalogue.names() if (spec := spoken.catalogue.get(name))}
            )
        else:
            spec = spoken.catalogue.get(tool)
            if spec is None:
                names = list(spoken.catalogue.names())
                fix = instead(tool, names, otherwise=f"there are {listing(names)}")
                raise InvalidCallError(f"there is no tool {tool}", fix=fix)
            print_json(
                {
                    "name": spec.name,
                    "description": spec.description,
                    "arguments": dict(spec.arguments),
                    "result": dict(spec.result),
                    "effect": spec.effect,
                    "idempotent": spec.idempotent,
                }
            )
        return 0

    leave(work)
