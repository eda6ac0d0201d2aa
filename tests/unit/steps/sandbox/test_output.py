from hypothesis import given
from hypothesis import strategies as st

from steps.sandbox.output import MAX_LINE, Output, Stream


def collect(chunks: list[tuple[Stream, bytes]], limit: int = 1000) -> tuple[Output, list[tuple[Stream, str]]]:
    output = Output(limit)
    lines = [line for stream, data in chunks for line in output.feed(stream, data)]
    return output, [*lines, *output.finish()]


def test_lines_are_given_as_they_are_completed() -> None:
    output = Output(100)
    assert list(output.feed("stdout", b"a\nb")) == [("stdout", "a")]
    assert list(output.feed("stderr", b"x\r\n")) == [("stderr", "x")]
    assert list(output.feed("stdout", b"c\n")) == [("stdout", "bc")]
    assert list(output.finish()) == []
    assert (output.text("stdout"), output.text("stderr")) == ("a\nbc\n", "x\r\n")


def test_character_cut_by_chunks_is_put_together() -> None:
    _output, lines = collect([("stdout", b"\xc3"), ("stdout", b"\xa4\n")])
    assert lines == [("stdout", "ä")]


def test_what_is_beyond_the_limit_is_dropped_and_marked_once() -> None:
    output, lines = collect([("stdout", b"12345"), ("stderr", b"67890"), ("stdout", b"more")], limit=8)
    assert output.truncated
    assert lines == [("stderr", "678"), ("stderr", "[output beyond 8 bytes is dropped]"), ("stdout", "12345")]


def test_output_of_exactly_the_limit_is_whole() -> None:
    output, lines = collect([("stdout", b"12345678")], limit=8)
    assert (output.truncated, lines) == (False, [("stdout", "12345678")])


def test_more_lines_than_the_limit_are_dropped_and_marked_once() -> None:
    chunks: list[tuple[Stream, bytes]] = [("stdout", b"\n" * 900), ("stderr", b"a\n" * 200), ("stdout", b"more\n")]
    output, lines = collect(chunks, limit=10_000)
    assert output.truncated
    assert lines == [
        *[("stdout", "")] * 900,
        *[("stderr", "a")] * 100,
        *[("stderr", ""), ("stderr", "[output beyond 1000 lines is dropped]")],
    ]


def test_exactly_as_many_lines_as_the_limit_are_whole() -> None:
    output, lines = collect([("stdout", b"\n" * 1000), ("stdout", b"the last")], limit=10_000)
    assert (output.truncated, len(lines), lines[-1]) == (False, 1001, ("stdout", "the last"))


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40))))
def test_nothing_is_lost_and_no_line_is_endless(chunks: list[tuple[Stream, bytes]]) -> None:
    output, lines = collect(chunks, limit=10_000)
    for stream in ("stdout", "stderr"):
        sent = b"".join(data for name, data in chunks if name == stream).decode(errors="replace")
        assert output.text(stream) == sent
    assert all(len(line) <= MAX_LINE and "\n" not in line for _stream, line in lines)


def test_endless_line_is_cut() -> None:
    _output, lines = collect([("stdout", b"x" * (2 * MAX_LINE + 5) + b"\n")], limit=100_000)
    assert [len(line) for _stream, line in lines] == [MAX_LINE, MAX_LINE, 5]


def test_a_note_of_the_host_stands_on_a_line_of_its_own() -> None:
    output = Output(100)
    assert list(output.feed("stderr", b"loading\nhalf \xc3")) == [("stderr", "loading")]
    assert list(output.note("network: refused")) == [("stderr", "network: refused")]
    assert list(output.feed("stderr", b"\xa4 line\n")) == [("stderr", "half ä line")]
    assert output.text("stderr") == "loading\nhalf \nnetwork: refused\nä line\n"
    assert list(output.finish()) == []


def test_notes_count_as_output_and_end_with_it() -> None:
    output = Output(20)
    assert [line for _number in range(5) for line in output.note("12345678")] == [("stderr", "12345678")] * 2
    lines = list(output.feed("stdout", b"more"))
    assert (output.truncated, lines) == (True, [("stdout", ""), ("stdout", "[output beyond 20 bytes is dropped]")])
