"""What holds for every flow of the library: it is valid, described, listed, in one style, and copied with all it needs."""

import re
from collections import Counter
from fnmatch import fnmatch
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML, ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from engine.bootstrap import language
from engine.examples import example_files, library
from flows.definition import Definition

LIBRARY = library()
FLOWS = sorted(
    path
    for folder in LIBRARY.values()
    for path in folder.glob("*.yaml")
    if path.read_text(encoding="utf-8").startswith("flow: ")
)
README = (Path(__file__).parents[3] / "flows" / "library" / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| \[`(\w+)`\]\(\1/\1\.yaml\) \| (.+) \|$", README, re.MULTILINE))

FLOW_KEYS = (
    *("flow", "description", "inputs", "triggers", "concurrency", "defaults", "timeout"),
    *("steps", "on_failure", "finally", "output"),
)
KINDS = ("python", "javascript", "shell", "image", "run", "args", "tool", "flow")
STEP_KEYS = (
    *("id", "name", "needs", "if", "for_each", *KINDS, "with", "files", "tools", "network", "limits"),
    *("retry", "timeout", "cache", "on_error", "returns"),
)
MAX_LINE = 120


each_flow = pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)


def load(path: Path) -> Definition:
    return language().load_text(path.read_text(encoding="utf-8"), path=str(path), directory=path.parent)


def plain(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def test_the_library_has_at_least_ten_flows() -> None:
    assert len(LIBRARY) >= 10
    assert {path.stem for path in FLOWS} >= LIBRARY.keys()


def test_the_readme_has_a_row_for_each_flow_and_no_other_in_order() -> None:
    assert list(ROWS) == list(LIBRARY)
    for cells in ROWS.values():
        does, needs = cells.split(" | ")
        assert len(does) > 40
        assert needs


@each_flow
def test_it_is_valid_and_every_word_of_it_is_described(path: Path) -> None:
    definition = load(path)
    assert definition.flow.flow == path.stem
    assert definition.flow.description
    assert len(f"description: {definition.flow.description}") <= MAX_LINE
    for name, schema in definition.flow.inputs.items():
        assert schema.get("description"), name
    for step in definition.steps.values():
        assert step.name, step.id


@each_flow
def test_it_is_in_the_canonical_style(path: Path) -> None:
    """Written back by the YAML library, with its indentation and line width, the text is the same."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = MAX_LINE
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.Representer = _Representer
    text = path.read_text(encoding="utf-8")
    written = StringIO()
    yaml.dump(yaml.load(text), written)
    assert written.getvalue() == text


@each_flow
def test_its_keys_have_their_order(path: Path) -> None:
    flow = plain(path)
    assert list(flow) == [key for key in FLOW_KEYS if key in flow]
    for step in (*flow["steps"], *flow.get("on_failure", ()), *flow.get("finally", ())):
        assert list(step) == [key for key in STEP_KEYS if key in step]


@pytest.mark.parametrize("name", LIBRARY)
def test_its_files_are_small_and_every_one_is_used(name: str) -> None:
    folder = LIBRARY[name]
    words = {
        word for path in folder.glob("*.yaml") for word in re.findall(r"[\w./*-]+", path.read_text(encoding="utf-8"))
    }
    for file in example_files(folder):
        text = (folder / file).read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert len(text.encode()) <= 24_000
        if file.suffix in {".yaml", ".py", ".ts", ".sh"}:
            assert all(len(line) <= MAX_LINE and line == line.rstrip() for line in text.splitlines()), file
        if file.suffix != ".yaml" or file.parent != Path():
            assert any(fnmatch(str(file), word.removeprefix("./")) for word in words), file


def test_two_examples_fit_into_one_directory() -> None:
    taken = Counter(file for folder in LIBRARY.values() for file in example_files(folder))
    assert [file for file, times in taken.items() if times > 1] == []


class _Representer(RoundTripRepresenter):
    """Writes null out, as people do."""

    def represent_none(self, data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)
