"""Which flows are applied together, and what is told of that."""

from pathlib import Path

import pytest

from engine.bootstrap import language
from engine.flow_changes import FlowGivenTwiceError, change, gather
from engine.flow_files import flow_files
from engine.service import FlowText
from flows.errors import InvalidFlowError

CHILD = "flow: child\nsteps: [{id: a, shell: echo 1}]\n"


def write(directory: Path, name: str, text: str) -> FlowText:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return FlowText(text=text.encode(), path=str(path), directory=path.parent)


async def test_subflows_beside_a_flow_come_with_it_however_deep(tmp_path: Path) -> None:
    parent = write(tmp_path, "parent.yaml", "flow: parent\nsteps: [{id: a, flow: middle}, {id: b, flow: elsewhere}]\n")
    write(tmp_path, "middle.yml", "flow: middle\nsteps: [{id: a, flow: child}, {id: b, flow: parent}]\n")
    write(tmp_path, "child.yaml", CHILD)
    write(tmp_path, "other.yaml", CHILD.replace("child", "other"))
    assert list(await gather([parent], language())) == ["parent", "middle", "child"]


async def test_all_problems_of_all_files_are_told(tmp_path: Path) -> None:
    wrong = [write(tmp_path, f"{name}.yaml", f"flow: {name}\nsteps: 1\n") for name in ("a", "b")]
    with pytest.raises(InvalidFlowError) as caught:
        await gather(wrong, language())
    assert [Path(problem.path).name for problem in caught.value.problems] == ["a.yaml", "b.yaml"]


async def test_one_name_has_one_text(tmp_path: Path) -> None:
    first, same = write(tmp_path, "child.yaml", CHILD), write(tmp_path, "again/child.yaml", CHILD)
    assert list(await gather([first, same], language())) == ["child"]
    other = write(tmp_path, "other/child.yaml", CHILD.replace("1", "2"))
    with pytest.raises(FlowGivenTwiceError, match=r"other/child\.yaml"):
        await gather([first, other], language())


async def test_a_new_flow_is_no_diff(tmp_path: Path) -> None:
    (definition,) = (await gather([write(tmp_path, "child.yaml", CHILD)], language())).values()
    made = change(definition, None, version=1)
    assert (made.change, made.version, made.previous, made.diff) == ("created", 1, None, "")


def test_flow_files_are_told_from_other_yaml(tmp_path: Path) -> None:
    for name, text in {
        "a.yaml": CHILD,
        "deep/er/b.yml": '"flow" : b\n',
        "invalid.yaml": "flow: [\n",
        "data/values.yaml": "steps:\n  flow: x\n",
        ".hidden/c.yaml": CHILD,
        "d.txt": CHILD,
    }.items():
        write(tmp_path, name, text)
    flows, others = flow_files(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in flows] == ["a.yaml", "deep/er/b.yml", "invalid.yaml"]
    assert [path.name for path in others] == ["values.yaml"]
