import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from steps.tools.catalogue import BUILT_IN, ToolCatalogue
from steps.tools.contract import (
    AlreadyExistsError,
    InvalidArgumentsError,
    NotFoundError,
    NotGrantedError,
    TooLargeError,
    ToolContext,
)

CATALOGUE = ToolCatalogue([])


async def call(context: ToolContext, tool: str, **arguments: Any) -> Any:
    """Call a ``workspace`` tool and hold its result against its schema."""
    name = f"workspace.{tool}"
    result = await CATALOGUE.call(name, arguments, context)
    Draft202012Validator(BUILT_IN[name].spec.result).validate(result)
    json.dumps(result, allow_nan=False)
    return result


@pytest.fixture
def flow_context(context: ToolContext, tmp_path: Path) -> ToolContext:
    """A call by a tool step of a flow, which may read its own directory."""
    (tmp_path / "flow").mkdir()
    return replace(context, host_directories=(tmp_path / "flow",))


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("open_resource", {"sourceKind": "file", "sourceId": "sales"}),
        ("open_resource", {"sourceKind": "doc", "sourceId": "sales"}),
        ("open_resource", {"sourceKind": "task", "sourceId": "sales"}),
        ("get_task", {"taskId": "sales"}),
        ("update_task", {"taskId": "sales", "statusId": "x"}),
        ("delete_task", {"taskId": "sales"}),
        ("update_doc", {"docId": "sales", "content": "x"}),
        ("delete_doc", {"docId": "sales"}),
        ("delete_file", {"fileId": "sales"}),
    ],
)
async def test_what_does_not_exist_is_named_with_what_was_meant(
    context: ToolContext, tool: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(NotFoundError, match="'sales'") as caught:
        await call(context, tool, **arguments)
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("add it with workspace.")
    await call(context, "create_task", taskId="sale", title="x", statusId="open")
    await call(context, "create_doc", docId="sale", content="")
    await call(context, "import_file", fileId="sale", content="")
    with pytest.raises(NotFoundError, match=r"did you mean 'sale'\?"):
        await call(context, tool, **arguments)


async def test_ids_are_taken_once(context: ToolContext) -> None:
    await call(context, "create_task", taskId="a", title="x", statusId="open")
    with pytest.raises(AlreadyExistsError, match="update_task"):
        await call(context, "create_task", taskId="a", title="y", statusId="open")
    await call(context, "create_doc", docId="a", content="x")
    with pytest.raises(AlreadyExistsError, match="update_doc"):
        await call(context, "create_doc", docId="a", content="y")


@pytest.mark.parametrize("text", ["a\0b", "half \ud800"])
async def test_what_no_database_keeps_is_refused(context: ToolContext, text: str) -> None:
    for tool, arguments in (
        ("create_doc", {"docId": "a", "content": text}),
        ("create_task", {"title": text, "statusId": "x"}),
        ("create_task", {"title": "x", "statusId": "x", "labels": [text]}),
        ("update_task", {"taskId": "x", "description": text}),
        ("update_doc", {"docId": "x", "content": text}),
        ("import_file", {"fileId": "x", "name": text, "content": ""}),
    ):
        with pytest.raises(InvalidArgumentsError, match="isn't text"):
            await call(context, tool, **arguments)


async def test_old_tasks_are_found_and_archived(context: ToolContext) -> None:
    for number, (status, age) in enumerate(
        [("in_progress", 40), ("in_progress", 31), ("in_progress", 3), ("done", 90)]
    ):
        await call(
            context,
            "create_task",
            taskId=f"t{number}",
            title=f"T{number}",
            statusId=status,
            updatedAt=f"{age} days ago",
        )
    stale = await call(context, "search_tasks", status="in_progress", updatedBefore="30 days ago")
    assert [task["id"] for task in stale] == ["t0", "t1"]
    for task in stale:
        await call(context, "update_task", taskId=task["id"], statusId="archived")
    assert await call(context, "search_tasks", status="in_progress", updatedBefore="30 days ago") == []
    archived = await call(context, "search_tasks", status=["archived", "none"])
    assert sorted(task["id"] for task in archived) == ["t0", "t1"]
    assert all(task["updatedAt"] > stale[0]["updatedAt"] for task in archived)


async def test_a_task_is_changed_only_where_asked(context: ToolContext) -> None:
    made = await call(
        context, "create_task", title="Write", statusId="open", description="soon", assigneeId="ann", labels=["a", "a"]
    )
    assert made["labels"] == ["a"]
    changed = await call(context, "update_task", taskId=made["id"], assigneeId=None, updatedAt="2025-01-01")
    assert changed == {**made, "assigneeId": None, "updatedAt": "2025-01-01T00:00:00Z"}
    assert await call(context, "get_task", taskId=made["id"]) == changed
    opened = await call(context, "open_resource", sourceKind="task", sourceId=made["id"])
    assert opened == {"id": made["id"], "name": "Write", "kind": "task", "content": "soon", "task": changed}
    assert await call(context, "delete_task", taskId=made["id"]) == {"id": made["id"], "deleted": True}


async def test_documents_are_written_opened_listed_and_deleted(context: ToolContext) -> None:
    await call(context, "create_doc", docId="sales-summary", content="")
    await call(context, "update_doc", docId="sales-summary", content="Total: 6", name="Sales")
    assert await call(context, "open_resource", sourceKind="doc", sourceId="sales-summary") == {
        "id": "sales-summary",
        "name": "Sales",
        "kind": "doc",
        "content": "Total: 6",
    }
    made = await call(context, "update_doc", docId="new", content="x", createIfMissing=True)
    assert made["name"] == "new"
    assert [doc["id"] for doc in await call(context, "list_docs", text="TOTAL")] == ["sales-summary"]
    assert [doc["id"] for doc in await call(context, "list_docs", limit=1, offset=0)] == ["new"]
    await call(context, "delete_doc", docId="new")
    assert [doc["id"] for doc in await call(context, "list_docs")] == ["sales-summary"]


async def test_a_sheet_opens_as_rows(context: ToolContext) -> None:
    content = "region,revenue\nnorth,10.5\nsouth,\neast,3\n"
    file = await call(context, "import_file", fileId="sales-q1", name="Sales, Q1", content=content)
    assert (file["format"], file["size"]) == ("csv", len(content))
    sheet = await call(context, "open_resource", sourceKind="file", sourceId="sales-q1")
    assert sheet == {
        "id": "sales-q1",
        "name": "Sales, Q1",
        "kind": "file",
        "format": "csv",
        "columns": ["region", "revenue"],
        "totalRows": 3,
        "rows": [
            {"region": "north", "revenue": 10.5},
            {"region": "south", "revenue": None},
            {"region": "east", "revenue": 3.0},
        ],
    }
    part = await call(
        context, "open_resource", sourceKind="file", sourceId="sales-q1", columns=["revenue"], limit=1, offset=2
    )
    assert (part["rows"], part["totalRows"], part["columns"]) == ([{"revenue": 3.0}], 3, ["revenue"])
    with pytest.raises(InvalidArgumentsError, match=r"did you mean 'revenue'\?"):
        await call(context, "open_resource", sourceKind="file", sourceId="sales-q1", columns=["revenu"])


async def test_a_file_without_rows_opens_as_content(context: ToolContext) -> None:
    await call(context, "import_file", fileId="notes", name="notes.txt", content="Grüße")
    opened = await call(context, "open_resource", sourceKind="file", sourceId="notes")
    assert (opened["content"], opened["encoding"], opened["format"]) == ("Grüße", "text", "text")
    image = base64.b64encode(b"\x89PNG\0").decode()
    await call(context, "import_file", fileId="image", name="a.png", content=image, encoding="base64")
    opened = await call(context, "open_resource", sourceKind="file", sourceId="image")
    assert (opened["content"], opened["encoding"], opened["format"]) == (image, "base64", "binary")
    for arguments in ({"sourceKind": "file", "sourceId": "notes"}, {"sourceKind": "doc", "sourceId": "x"}):
        with pytest.raises(InvalidArgumentsError, match="limit"):
            await call(context, "open_resource", **arguments, limit=1)


async def test_importing_again_replaces(context: ToolContext) -> None:
    first = await call(context, "import_file", fileId="a", content="one")
    second = await call(context, "import_file", fileId="a", content="three", format="binary")
    assert (second["size"], second["format"], second["createdAt"]) == (5, "binary", first["createdAt"])
    assert [file["id"] for file in await call(context, "list_files")] == ["a"]
    await call(context, "delete_file", fileId="a")
    assert await call(context, "list_files") == []


@pytest.mark.parametrize("content", ["!", "YQ", "YQ==\n", "ü"])
async def test_what_is_no_base64_is_refused(context: ToolContext, content: str) -> None:
    with pytest.raises(InvalidArgumentsError, match="base64"):
        await call(context, "import_file", fileId="a", content=content, encoding="base64")


async def test_code_reads_no_file_of_the_host(context: ToolContext) -> None:
    for path in ("/etc/passwd", "etc/passwd", "."):
        with pytest.raises(NotGrantedError):
            await call(context, "import_file", fileId="a", path=path)
        with pytest.raises(NotGrantedError):
            await call(context, "import_files", glob=path)


async def test_a_flow_imports_files_from_its_own_directory_only(flow_context: ToolContext, tmp_path: Path) -> None:
    flow = tmp_path / "flow"
    (flow / "data").mkdir()
    (flow / "data" / "sales.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("secret")
    (flow / "link.txt").symlink_to(tmp_path / "secret.txt")
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "/etc/passwd", "data/../../secret.txt"):
        with pytest.raises(NotGrantedError, match="outside"):
            await call(flow_context, "import_file", fileId="a", path=path)
    for path in ("data", "none.csv"):
        with pytest.raises(NotFoundError):
            await call(flow_context, "import_file", fileId="a", path=path)
    with pytest.raises(InvalidArgumentsError, match="encoding"):
        await call(flow_context, "import_file", fileId="a", path="data/sales.csv", encoding="text")
    for path in ("data/sales.csv", str(flow / "data" / "sales.csv")):
        file = await call(flow_context, "import_file", fileId="a", path=path)
        assert (file["name"], file["format"]) == ("sales.csv", "csv")
    named = await call(flow_context, "import_file", fileId="a", path="data/sales.csv", name="Sales")
    assert (named["name"], named["format"]) == ("Sales", "csv")


async def test_a_pattern_imports_the_files_it_names(flow_context: ToolContext, tmp_path: Path) -> None:
    flow = tmp_path / "flow"
    (flow / "in" / "deep").mkdir(parents=True)
    for name, content in {"b.csv": "x,y\n1,2\n", "a b.csv": "x\n1\n", "note.md": "n", ".hidden.csv": "x\n1\n"}.items():
        (flow / "in" / name).write_text(content)
    (flow / "in" / "deep" / "c.csv").write_text("x\n3\n")
    (flow / "in" / "folder.csv").mkdir()
    files = await call(flow_context, "import_files", glob="in/*.csv")
    assert [(file["path"], file["id"], file["name"], file["format"]) for file in files] == [
        ("in/a b.csv", "in-a-b.csv", "a b.csv", "csv"),
        ("in/b.csv", "in-b.csv", "b.csv", "csv"),
    ]
    opened = await call(flow_context, "open_resource", sourceKind="file", sourceId="in-b.csv")
    assert opened["rows"] == [{"x": 1, "y": 2}]
    deep = await call(flow_context, "import_files", glob="**/*.csv")
    assert [file["id"] for file in deep] == ["in-a-b.csv", "in-b.csv", "in-deep-c.csv"]
    assert [file["id"] for file in await call(flow_context, "import_files", glob="in/.*.csv")] == ["in-.hidden.csv"]
    assert await call(flow_context, "import_files", glob="none/*") == []


async def test_a_pattern_names_nothing_outside_and_no_two_files_alike(
    flow_context: ToolContext, tmp_path: Path
) -> None:
    flow = tmp_path / "flow"
    (tmp_path / "secret.csv").write_text("secret")
    for glob in ("/etc/*", "../*.csv", "in/../../*.csv"):
        with pytest.raises(InvalidArgumentsError, match="leaves the flow's directory"):
            await call(flow_context, "import_files", glob=glob)
    (flow / "a b.csv").write_text("x\n")
    (flow / "a-b.csv").write_text("x\n")
    with pytest.raises(InvalidArgumentsError, match=r"a b\.csv and a-b\.csv have the same id 'a-b\.csv'"):
        await call(flow_context, "import_files", glob="*.csv")
    (flow / "a b.csv").unlink()
    (flow / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(NotGrantedError, match=r"'link\.csv' is outside"):
        await call(flow_context, "import_files", glob="*.csv")
    (flow / "many").mkdir()
    for number in range(1001):
        (flow / "many" / str(number)).touch()
    with pytest.raises(TooLargeError, match="1001 files"):
        await call(flow_context, "import_files", glob="many/*")


async def test_a_file_that_is_too_large_is_refused_unread(flow_context: ToolContext, tmp_path: Path) -> None:
    with (tmp_path / "flow" / "big.bin").open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(TooLargeError):
        await call(flow_context, "import_file", fileId="a", path="big.bin")


async def test_a_workspace_is_closed_to_another(context: ToolContext) -> None:
    await call(context, "create_doc", docId="a", content="mine")
    with pytest.raises(NotFoundError):
        await call(replace(context, workspace="other"), "open_resource", sourceKind="doc", sourceId="a")
