"""The requests that an OpenAPI document describes, filled with its own examples."""

import sys
from urllib.parse import quote

import yaml


def main(file, methods):
    opened = tools.open_resource(sourceKind="file", sourceId=file)
    try:
        api = yaml.safe_load(opened["content"])  # JSON is YAML too
    except yaml.YAMLError as problem:
        sys.exit(f"{opened['name']} is not YAML: {problem}")
    if not isinstance(api, dict) or not str(api.get("openapi", "")).startswith("3.") or not api.get("paths"):
        sys.exit(f"{opened['name']} is no OpenAPI 3 document with paths")

    requests, skipped = [], []
    for path, item in api["paths"].items():
        described = inlined(api, item)
        for method in methods:
            operation = described.get(method.lower())
            if operation is None:
                continue
            name = f"{method} {path}"
            try:
                parameters = [*described.get("parameters", []), *operation.get("parameters", [])]
                requests.append({"name": name, **request(method, path, operation, parameters)})
            except NoExampleError as missing:
                skipped.append({"name": name, "reason": str(missing)})
    print(f"{opened['name']}: {len(requests)} requests, {len(skipped)} can't be made for lack of an example")
    return {"requests": requests, "skipped": skipped}


class NoExampleError(Exception):
    pass


def request(method, path, operation, parameters):
    by_place = {"path": {}, "query": {}, "header": {}}
    for parameter in parameters:
        if parameter.get("required") and parameter["in"] in by_place:
            by_place[parameter["in"]][parameter["name"]] = example(parameter, parameter["name"])
    for name, value in by_place["path"].items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    made = {"method": method, "path": path, "query": by_place["query"], "headers": by_place["header"]}
    body = operation.get("requestBody", {})
    if body.get("required"):
        made["json"] = example(body.get("content", {}).get("application/json", {}), "the body")
    answers = operation.get("responses", {})
    return {**made, "answers": {str(status): answer.get("content", {}) for status, answer in answers.items()}}


def example(described, what):
    """The value that a parameter or a body may have, by what the document says of it."""
    schema = described.get("schema", {})
    for value in (
        described.get("example"),
        *(one.get("value") for one in described.get("examples", {}).values()),
        schema.get("example"),
        *schema.get("examples", []),
        schema.get("default"),
        *schema.get("enum", []),
        schema.get("minimum"),
    ):
        if value is not None:
            return value
    raise NoExampleError(f"no example for {what}")


def inlined(api, node, within=()):
    """The node with what its references stand for; a schema that holds itself is cut off there, as anything."""
    if isinstance(node, list):
        return [inlined(api, item, within) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return {key: inlined(api, value, within) for key, value in node.items()}
    if reference in within:
        return {}
    target = api
    for part in reference.removeprefix("#/").split("/"):
        try:
            target = target[part.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError):
            sys.exit(f"the document has nothing at {reference}")
    return inlined(api, target, (*within, reference))
