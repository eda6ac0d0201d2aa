"""What of a Dockerfile is built, and what is refused."""

import pytest

from steps.sandbox.docker import dockerfile
from steps.tools.contract import InvalidArgumentsError

ID = f"sha256:{'a' * 64}"


def test_what_is_built_is_written_anew_from_images_by_their_ids() -> None:
    parsed = dockerfile.parse(
        "# syntax is a word\nARG BASE=one:1\nfrom $BASE as build\nRUN a \\\n  # aside\n  b\n"
        "FROM two AS last\nCOPY --from=build --chown=1 /a /b\nCOPY --from=0 /a /c\nFROM BUILD\nONBUILD RUN a\n",
        {},
    )
    assert parsed.bases == ("one:1", "two")
    assert parsed.text({"one:1": ID, "two": "sha256:b"}) == (
        f"ARG BASE=one:1\nFROM {ID} AS build\nRUN a   b\nFROM sha256:b AS last\nCOPY --from=build --chown=1 /a /b\n"
        "COPY --from=0 /a /c\nFROM BUILD\nONBUILD RUN a\n"
    )


def test_an_image_is_told_from_a_later_stage_of_its_name() -> None:
    parsed = dockerfile.parse("FROM python AS one\nFROM python AS python\nFROM python\nFROM scratch\nCMD a\n", {})
    assert parsed.bases == ("python",)
    assert parsed.text({"python": ID}) == f"FROM {ID} AS one\nFROM {ID} AS python\nFROM python\nFROM scratch\nCMD a\n"


def test_build_arguments_name_the_image() -> None:
    assert dockerfile.parse("ARG TAG=1\nFROM a:${TAG}\n", {"TAG": "2"}).bases == ("a:2",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "starts from no image"),
        ("RUN a", "starts from no image"),
        ("FROM a\nADD https://example.com/x /x", "line 2: ADD isn't taken"),
        ("FROM a\nadd x /x", "line 2: ADD isn't taken"),
        ("FROM a\nADD\\\n x /x", "line 2"),
        ("FROM a\nONBUILD ADD https://example.com/x /x", "line 2: ADD isn't taken"),
        ("FROM a\nONBUILD\tADD https://example.com/x /x", "line 2: ADD isn't taken"),
        ("FROM a\nONBUILD ONBUILD add x /x", "line 2: ADD isn't taken"),
        ("FROM a\nONBUILD COPY --from=b:1 /x /x", "line 2: COPY --from isn't taken in ONBUILD"),
        ("FROM a\nCOPY --from=b:1 /x /x", "line 2: --from=b:1 names no earlier stage"),
        ("FROM a\nCOPY --chown=1 --from=b:1 /x /x", "names no earlier stage"),
        ("FROM a\nCOPY --FROM=b:1 /x /x", "line 2: --FROM=b:1 is no option"),
        ("FROM a\nCOPY --fr\\om=b:1 /x /x", "is no option"),
        ('FROM a\nCOPY --fr"om"=b:1 /x /x', "is no option"),
        ("FROM a\nONBUILD COPY --fr\\om=b:1 /x /x", "is no option"),
        ("FROM a\nCOPY --from /x /x", "names no earlier stage"),
        ("FROM a\nCOPY --from=$b /x /x", "names no earlier stage"),
        ("FROM a\nCOPY --from=0 /x /x", "names no earlier stage"),
        ("FROM a AS one\nCOPY --from=one /x /x", "names no earlier stage"),
        ("FROM a\nCOPY --from=b /x /x\nFROM c AS b", "line 2: --from=b names no earlier stage"),
        ("FROM --platform=linux/arm64 a", "line 1: `FROM --platform"),
        ("FROM $A", "line 1: `FROM $A` can't be read"),
        ("ARG A\nFROM $A", "line 2: `FROM $A` can't be read"),
        ("FROM a\nFROM ../containers/b", "line 2: `FROM ../containers/b` can't be read"),
        ("FROM https://example.com/a.git?x", "can't be read"),
        ("FROM a b", "can't be read"),
        ("# syntax=evil/frontend\nFROM a", "line 1: directives"),
        ("# escape=`\nFROM a", "line 1: directives"),
        ("FROM a\nRUN <<EOF\nADD x y\nEOF", "line 2: here-documents"),
        ('FROM a\nCOPY <<"E F" /x', "line 2: here-documents"),
        ("FROM a\nRUN 3<<-1", "line 2: here-documents"),
        ("FROM a\nRUN a \\", "line 2: `RUN a \\` is no instruction"),
        ("FROM a\nRUN a \\\\\\\\", "line 2"),
        ("FROM a\nFETCH b", "line 2: there is no instruction FETCH"),
        ("FROM a\nRUN", "line 2: `RUN` is no instruction"),
        ("FROM a\nRUN a \\\n\nADD x y", "line 4: ADD isn't taken"),
        ("FROM a\nRUN a\rADD x y", "control characters"),
        ("FROM a\nRUN a\x00", "control characters"),
    ],
)
def test_what_is_not_taken_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        dockerfile.parse(text, {})
    assert said in refused.value.message
    assert refused.value.fix


def test_an_argument_does_not_add_instructions() -> None:
    for value in ("a\nADD x y", "a AS b", "a:1 ", "--platform=x"):
        with pytest.raises(InvalidArgumentsError, match="can't be read"):
            dockerfile.parse("ARG A=a\nFROM $A\n", {"A": value})
