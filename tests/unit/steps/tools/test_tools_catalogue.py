import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flows.contracts import Catalogue, ToolSpec
from flows.values import Json
from steps.tools.catalogue import BUILT_IN, ENTRY_POINTS, ToolCatalogue
from steps.tools.contract import InvalidArgumentsError, NotGrantedError, ToolContext, ToolError, UnknownToolError


class Shout:
    """A plug-in's tool."""

    spec = ToolSpec(
        name="text.shout",
        description="Upper case.",
        arguments={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        result={"type": "string"},
    )

    async def call(self, arguments: Mapping[str, Json], context: ToolContext) -> Json:
        return f"{arguments['text'].upper()} ({context.workspace})"


SHOUT = Shout()


def entry(name: str, value: str = f"{__name__}:SHOUT") -> EntryPoint:
    return EntryPoint(name=name, value=value, group=ENTRY_POINTS)


@pytest.fixture
def catalogue() -> ToolCatalogue:
    return ToolCatalogue([])


def test_it_is_a_catalogue_of_the_language(catalogue: ToolCatalogue) -> None:
    language: Catalogue = catalogue
    assert "workspace.update_doc" in language.names()
    assert language.get("workspace.update_doc") is not None
    assert language.get("workspace.update_docs") is None
    assert language.get("update_doc") is None


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_tool_says_what_it_takes_gives_and_does(name: str) -> None:
    spec = BUILT_IN[name].spec
    for schema in (spec.arguments, spec.result):
        Draft202012Validator.check_schema(schema)
        assert schema
    assert spec.arguments["additionalProperties"] is False
    assert spec.description.endswith(".")
    assert all(schema.get("description") for schema in spec.arguments["properties"].values())
    assert spec.short_name == name.partition(".")[2]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("workspace.update_dco", "did you mean workspace.update_doc?"),
        ("update_dco", "did you mean workspace.update_doc?"),
        ("zzz", "there are event.emit, files.list"),
    ],
)
def test_an_unknown_tool_is_named_with_what_was_meant(catalogue: ToolCatalogue, name: str, fix: str) -> None:
    with pytest.raises(UnknownToolError) as caught:
        catalogue.resolve(name)
    assert caught.value.fix is not None
    assert caught.value.fix.startswith(fix)
    with pytest.raises(UnknownToolError):
        catalogue.tool(name)


def test_a_short_name_resolves_where_one_tool_has_it(catalogue: ToolCatalogue) -> None:
    assert catalogue.resolve("update_doc") == "workspace.update_doc"
    assert catalogue.resolve("files.read") == "files.read"
    assert catalogue.resolve("read", granted=["files.read", "http.request"]) == "files.read"


def test_a_short_name_that_two_tools_have_is_refused() -> None:
    catalogue = ToolCatalogue([entry("text.read")])
    with pytest.raises(UnknownToolError, match=r"files.read, text.read"):
        catalogue.resolve("read")
    assert catalogue.resolve("read", granted=["text.read"]) == "text.read"


def test_what_is_not_granted_is_refused_with_the_grant_to_write(catalogue: ToolCatalogue) -> None:
    for name in ("workspace.update_doc", "update_doc"):
        with pytest.raises(NotGrantedError, match=r"tools: \[workspace.update_doc\]"):
            catalogue.resolve(name, granted=["files.read"])
    with pytest.raises(UnknownToolError):
        catalogue.resolve("nonsense", granted=[])


@pytest.mark.parametrize(
    ("name", "arguments", "messages"),
    [
        ("workspace.get_task", None, ["takes an object"]),
        ("workspace.get_task", [], ["takes an object"]),
        ("workspace.get_task", {}, ["'taskId' is missing"]),
        (
            "workspace.get_task",
            {"taskid": "x"},
            ["'taskId' is missing", "unknown argument 'taskid': did you mean 'taskId'?"],
        ),
        ("workspace.get_task", {"taskId": "../x"}, ["taskId must be letters"]),
        (
            "workspace.open_resource",
            {"sourceKind": "files", "sourceId": "x"},
            ["must be one of", "did you mean 'file'?"],
        ),
        (
            "workspace.open_resource",
            {"sourceKind": "file", "sourceId": 3, "limit": -1},
            ["sourceId must be of type string, not 3", "limit"],
        ),
        ("workspace.search_tasks", {"status": 5}, ["status can't be 5", "type string"]),
        ("workspace.search_tasks", {"status": []}, ["status"]),
        ("workspace.update_task", {"taskId": "x"}, ["nothing to change: give one of title, statusId"]),
        ("workspace.update_doc", {"docId": "x"}, ["at least one of content and name"]),
        ("workspace.import_file", {"fileId": "x"}, ["exactly one of content and path"]),
        ("workspace.import_file", {"fileId": "x", "content": "", "path": "x"}, ["exactly one of content and path"]),
        ("http.request", {"url": "https://x", "json": 1, "body": "x"}, ["only one of json and body"]),
        ("http.request", {"url": "https://x", "headers": {"a": 1}}, ["headers.a must be of type string"]),
        (
            "http.request",
            {"url": "https://x", "fail_on_status": 503},
            ["fail_on_status must be of type array, not 503"],
        ),
        ("http.request", {"url": "https://x", "fail_on_status": [5]}, ["fail_on_status.0 can't be 5"]),
        ("http.request", {"url": "x" * 10_000, "timeout": "x" * 10_000}, ["timeout"]),
    ],
)
def test_all_that_is_wrong_with_arguments_is_said_at_once(
    catalogue: ToolCatalogue, name: str, arguments: Any, messages: list[str]
) -> None:
    with pytest.raises(InvalidArgumentsError) as caught:
        catalogue.check_arguments(BUILT_IN[name].spec, arguments)
    assert len(str(caught.value)) < 1000
    for message in messages:
        assert message in caught.value.message


async def test_a_call_resolves_checks_and_returns(catalogue: ToolCatalogue, context: ToolContext) -> None:
    made = await catalogue.call("create_doc", {"docId": "notes", "content": "hello"}, context)
    assert made["id"] == "notes"
    with pytest.raises(NotGrantedError):
        await catalogue.call("create_doc", {"docId": "n", "content": ""}, context, granted=["files.read"])
    with pytest.raises(InvalidArgumentsError):
        await catalogue.call("create_doc", {}, context)


async def test_a_plug_in_is_a_tool_like_any_other(context: ToolContext) -> None:
    catalogue = ToolCatalogue([entry("text.shout")])
    assert "text.shout" in catalogue.names()
    assert catalogue.get("text.shout") is SHOUT.spec
    assert await catalogue.call("shout", {"text": "hey"}, context) == "HEY (default)"


@pytest.mark.parametrize(
    ("plug_ins", "message"),
    [
        ([entry("files.read")], "second tool called files.read"),
        ([entry("text.shout"), entry("text.shout")], "second tool called text.shout"),
        ([entry("text.whisper")], "calls itself text.shout"),
        ([entry("text.whisper", "no_such_module:TOOL")], "can't be loaded"),
        ([entry("text.whisper", f"{__name__}:MISSING")], "can't be loaded"),
    ],
)
def test_a_plug_in_that_cannot_be_trusted_to_be_what_it_says_is_refused(
    plug_ins: list[EntryPoint], message: str
) -> None:
    with pytest.raises(ToolError, match=message):
        ToolCatalogue(plug_ins).get("text.whisper")


def test_the_catalogue_is_cheap_to_import() -> None:
    code = (
        "import sys; from steps.tools.catalogue import ToolCatalogue; c = ToolCatalogue();"
        "[c.get(name) for name in c.names()];"
        "print([m for m in ('httpx', 'pyarrow', 'pandas', 'sqlalchemy', 'fsspec', 'jsonschema', 'prefect') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("given", "effect", "idempotent"),
    [
        ({}, "read", True),
        ({"method": "HEAD"}, "read", True),
        ({"method": "PUT"}, "write", True),
        ({"method": "DELETE"}, "write", True),
        ({"method": "POST"}, "write", False),
        ({"method": "PATCH", "headers": {"accept": "*/*"}}, "write", False),
        ({"method": "POST", "headers": {"Idempotency-KEY": "k"}}, "write", True),
        ({"method": "POST", "idempotent": True}, "write", True),
        ({"method": "POST", "headers": {"idempotency-key": "k"}, "idempotent": False}, "write", False),
        ({"method": "DELETE", "idempotent": False}, "write", False),
    ],
)
def test_what_a_request_means_depends_on_it(given: dict[str, Json], effect: str, idempotent: bool) -> None:  # noqa: FBT001
    nature = BUILT_IN["http.request"].spec.nature({"url": "https://example.com/", **given})
    assert (nature.effect, nature.idempotent) == (effect, idempotent)


def test_what_changes_only_the_store_is_committed_with_its_record() -> None:
    """But for what reads many files of the host, which would hold up all other writers."""
    outside = {name for name, tool in BUILT_IN.items() if not tool.spec.in_store}
    assert {name for name in outside if name.startswith("workspace.")} == {"workspace.import_files"}
    inside = ("workspace.", "event.")
    assert {name for name in BUILT_IN if not name.startswith(inside)} <= outside
    assert "event.emit" not in outside
