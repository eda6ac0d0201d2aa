"""``stepbox schema``: the JSON Schema of flow files, for editors."""

from engine.bootstrap import language
from flows.schema import json_schema
from ui.cli.show import print_json


def schema() -> None:
    """Print the JSON Schema of flow files, so that an editor completes and checks them.

    Example: `stepbox schema > stepbox.schema.json`, and as the first line of a flow
    `# yaml-language-server: $schema=stepbox.schema.json`
    """
    print_json(json_schema(language().registry))
