import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.tools import tables
from steps.tools.content import Format
from steps.tools.tables import UnreadableFileError


def rows(text: str | bytes, format_: Format = "csv") -> list[dict[str, Any]]:
    table = tables.read("file", format_, text.encode() if isinstance(text, str) else text)
    assert table is not None
    return table.rows(list(table.columns), 0, None)


def column(*cells: str) -> list[Any]:
    return [row["c"] for row in rows("\n".join(["c,d", *(f"{cell},x" for cell in cells)]))]


@pytest.mark.parametrize(
    ("content", "format_", "message"),
    [
        (b"\xff\xfe", "csv", "isn't UTF-8"),
        (b"a\0b", "csv", "isn't UTF-8"),
        (b'a,b\n"x', "csv", "line 2"),
        (b'a,b\n"x"y,1', "csv", "line 2"),
        (b"a,b\n1,2,3", "csv", "row 2: 3 cells under 2 columns"),
        (b"[1,", "json", "line 1"),
        (b"{\n}\n]", "json", "line 3"),
        (b"[" * 100_000, "json", "nested"),
        (b"[" + b"9" * 5000 + b"]", "json", "digits"),
        (b'{"a":1}\n{"a"', "jsonl", "line 2"),
        (b'{"a":1}\n3', "jsonl", "line 2: not an object"),
        (b"PAR1 nonsense PAR1", "parquet", "Parquet"),
        (b"", "parquet", "Parquet"),
    ],
)
def test_a_file_that_is_not_what_it_says_names_the_place(content: bytes, format_: Format, message: str) -> None:
    with pytest.raises(UnreadableFileError, match=message):
        tables.read("file", format_, content)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1", "-2", "0", ""), [1, -2, 0, None]),
        (("1", "NA", "3"), [1, None, 3]),
        (("1.5", "2", "-.5", "1e3", "3."), [1.5, 2.0, -0.5, 1000.0, 3.0]),
        (("1e400", "1.0"), [None, 1.0]),
        (("007", "8"), ["007", "8"]),
        (("+1", "2"), ["+1", "2"]),
        (("1_000", "2"), ["1_000", "2"]),
        (("-", "2"), ["-", "2"]),
        (("١", "2"), ["١", "2"]),
        ((" 1", "2"), [" 1", "2"]),
        (("9007199254740991", "1"), [9007199254740991, 1]),
        (("9007199254740992", "1"), ["9007199254740992", "1"]),
        (("-9007199254740992", ""), ["-9007199254740992", None]),
        (("true", "FALSE", ""), [True, False, None]),
        (("true", "1"), ["true", "1"]),
        (("NA", "Namibia"), ["NA", "Namibia"]),
        (("NA", "", "null"), [None, None, None]),
        (("2025-03-31", "2025-04-01"), ["2025-03-31", "2025-04-01"]),
        (("nan", "inf"), ["nan", "inf"]),
        (("", ""), [None, None]),
    ],
)
def test_a_column_is_of_one_type(cells: tuple[str, ...], values: list[Any]) -> None:
    found = column(*cells)
    assert [repr(value) for value in found] == [repr(value) for value in values]


def test_csv_with_quotes_lines_and_a_byte_order_mark() -> None:
    text = '\ufeffname,note\r\n"a, b","two\r\nlines"\r\n"say ""hi""",\r\n\r\n'
    assert rows(text) == [{"name": "a, b", "note": "two\r\nlines"}, {"name": 'say "hi"', "note": None}]


def test_csv_with_semicolons_and_tabs() -> None:
    assert rows("a;b\n1;2,5") == [{"a": 1, "b": "2,5"}]
    assert rows("a,x\tb\n1\t2", "tsv") == [{"a,x": 1, "b": 2}]


def test_csv_columns_get_names_of_their_own() -> None:
    assert rows("a,a,,a_2, b \n1,2,3,4,5") == [{"a": 1, "a_2": 2, "column_3": 3, "a_2_2": 4, "b": 5}]


def test_short_rows_are_filled_and_no_rows_are_no_error() -> None:
    assert rows("a,b\n1") == [{"a": 1, "b": None}]
    assert rows("a,b\n") == []
    assert rows("") == []


def test_json_lists_of_objects_are_rows() -> None:
    assert rows('[{"a": 1}, {"b": [9007199254740993, {"c": 1.5}], "a": null}]', "json") == [
        {"a": 1, "b": None},
        {"a": None, "b": ["9007199254740993", {"c": 1.5}]},
    ]
    assert rows('{"a": NaN}\n\n{"a": 1e999}', "jsonl") == [{"a": None}, {"a": None}]


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '[{"a": 1}, 2]', '"x"', "3"])
def test_other_json_has_no_rows(text: str) -> None:
    assert tables.read("x.json", "json", text.encode()) is None


def test_parquet_values_become_json() -> None:
    moment = datetime(2025, 3, 31, 14, tzinfo=UTC)
    table = pa.table(
        {
            "int": [1, 2**60],
            "float": [1.5, float("nan")],
            "text": ["x", None],
            "date": [date(2025, 3, 31), None],
            "time": [moment, None],
            "decimal": [Decimal("1.10"), None],
            "bytes": [b"\xff", None],
            "list": [[1, None], []],
            "struct": [{"a": True}, None],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    first, second = rows(sink.getvalue(), "parquet")
    assert first == {
        "int": 1,
        "float": 1.5,
        "text": "x",
        "date": "2025-03-31",
        "time": "2025-03-31T14:00:00+00:00",
        "decimal": "1.10",
        "bytes": "/w==",
        "list": [1, None],
        "struct": {"a": True},
    }
    assert second["int"] == str(2**60)
    assert second["float"] is None
    json.dumps([first, second], allow_nan=False)


def test_rows_are_chosen_by_column_limit_and_offset() -> None:
    table = tables.read("x", "csv", b"a,b\n1,2\n3,4\n5,6")
    assert table is not None
    assert table.rows(["b"], 1, 1) == [{"b": 4}]
    assert table.rows(["b", "a"], 2, 10) == [{"b": 6, "a": 5}]
    assert table.rows(["a"], 5, None) == []
    assert table.rows(["a"], 0, 0) == []


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("a.csv", b"", "csv"),
        ("a.CSV", b"\xff", "csv"),
        ("a.b.tsv", b"", "tsv"),
        ("a.json", b"", "json"),
        ("a.ndjson", b"", "jsonl"),
        ("a.pq", b"", "parquet"),
        ("sales", b"a,b\n1,2\n", "csv"),
        ("sales", b"a;b\n1;2\n", "csv"),
        ("sales", b"a\tb\n1\t2\n", "tsv"),
        ("Sales, Q1 2025", b"a,b\n1,2\n", "csv"),
        ("sales", b"a,b\n1\n", "text"),
        ("sales", b"Dear all,\nhello, you", "csv"),
        ("notes.txt", b"a,b\n1,2\n", "text"),
        ("README.md", b"a,b\n1,2\n", "text"),
        ("x", b"hello", "text"),
        ("x", b"", "text"),
        ("x", b"[1]", "json"),
        ("x", b"[x", "text"),
        ("x", b'{"a":1}', "json"),
        ("x", b'{"a":1}\n{"a":2}', "jsonl"),
        ("x", b'{\n"a":1}', "json"),
        ("x.sql", b"a, b\nc, d\n", "text"),
        ("x", b"PAR1..PAR1", "parquet"),
        ("x", b"\x89PNG\0", "binary"),
        ("x.png", b"\x89PNG\0", "binary"),
    ],
)
def test_the_format_is_told_by_the_ending_then_by_the_content(name: str, content: bytes, format_: str) -> None:
    assert tables.format_of(name, content) == format_


@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet", "text", "binary"]))
def test_no_content_breaks_reading(content: bytes, format_: Format) -> None:
    try:
        table = tables.read("file", format_, content)
    except UnreadableFileError:
        return
    if table is not None:
        json.dumps(table.rows(list(table.columns), 0, None), allow_nan=False)


@given(
    st.lists(
        st.tuples(st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False)), min_size=1
    )
)
def test_numbers_come_through_csv_exactly(values: list[tuple[int, float]]) -> None:
    text = "i,f\n" + "\n".join(f"{i},{f!r}" for i, f in values)
    found = [(row["i"], row["f"]) for row in rows(text)]
    assert found == values
