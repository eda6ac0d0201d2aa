"""One request, and all that is wrong with its answer."""

import re
import time

TYPES = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list, "object": dict}


def main(base_url, request, headers, slow_ms):
    url = base_url.rstrip("/") + request["path"]
    body = {"json": request["json"]} if "json" in request else {}
    began = time.monotonic()
    try:
        answer = tools.request(
            url=url,
            method=request["method"],
            query=request["query"],
            headers={**request["headers"], **headers},
            follow_redirects=False,
            **body,
        )
    except Exception as problem:
        # No answer is a finding as any other. That the call is not allowed, say, is none: it ends the run.
        if getattr(problem, "code", None) not in {"connection_failed", "http_timeout"}:
            raise
        return {"name": request["name"], "status": None, "ms": None, "problems": [str(problem)]}
    ms = round(1000 * (time.monotonic() - began))
    problems = list(wrong(answer, request["answers"]))
    if ms > slow_ms:
        problems.append(f"took {ms} ms, more than {slow_ms}")
    return {"name": request["name"], "status": answer["status"], "ms": ms, "problems": problems}


def wrong(answer, documented):
    status = str(answer["status"])
    content = documented.get(status, documented.get(f"{status[0]}XX", documented.get("default")))
    if content is None:
        yield f"answered {status}, which is not documented; there are {', '.join(documented)}"
    elif answer["status"] >= 400:
        yield f"answered {status}: {str(answer.get('json', answer.get('body')))[:100]}"
    elif content:
        kind = answer["headers"].get("content-type", "").partition(";")[0].strip()
        if kind not in content:
            yield f"answered {kind or 'no content type'}, documented is {', '.join(content)}"
        elif "json" in answer:
            yield from mismatches(content[kind].get("schema", {}), answer["json"], "the body")
        elif kind.endswith("json"):
            yield "the body is not JSON"


def mismatches(schema, value, at):
    """Where a value breaks a JSON Schema: the keywords that API documents live on, others are not looked at."""
    if not isinstance(schema, dict) or (value is None and schema.get("nullable")):
        return
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_a(value, one) for one in types):
        yield f"{at} is {shown(value)}, not of type {' or '.join(types)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is {shown(value)}, not one of {', '.join(map(str, schema['enum']))}"
    for kind, look in LOOKS.items():
        if is_a(value, kind):
            yield from look(schema, value, at)
    for part in schema.get("allOf", []):
        yield from mismatches(part, value, at)
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if options and all(any(mismatches(option, value, at)) for option in options):
            yield f"{at} is none of what it may be"


def number(schema, value, at):
    if value < schema.get("minimum", value):
        yield f"{at} is {value}, less than {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield f"{at} is {value}, more than {schema['maximum']}"


def text(schema, value, at):
    if len(value) < schema.get("minLength", 0):
        yield f"{at} is too short: {shown(value)}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at} is {shown(value)}, which doesn't match {schema['pattern']}"


def array(schema, value, at):
    if len(value) < schema.get("minItems", 0):
        yield f"{at} has {len(value)} items, less than {schema['minItems']}"
    for index, item in enumerate(value):
        yield from mismatches(schema.get("items", {}), item, f"{at}[{index}]")


def structure(schema, value, at):
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at} has no {name}"
    for name, part in schema.get("properties", {}).items():
        if name in value:
            yield from mismatches(part, value[name], f"{at}.{name}")


LOOKS = {"number": number, "string": text, "array": array, "object": structure}


def is_a(value, kind):
    if kind == "null":
        return value is None
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def shown(value):
    written = repr(value)
    return written if len(written) <= 40 else f"{written[:40]}…"
