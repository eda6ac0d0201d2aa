"""The benchmarks' own arithmetic: medians, ratios, and how much a figure moved."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks.figures import Earlier, Figure, Report


def figure(key: str, *samples: float) -> Figure:
    return Figure(key=key, name=f"the {key}", unit="ms", samples=list(samples))


def report(*figures: Figure) -> Report:
    made = Report()
    made.add(figures)
    return made


def written(path: Path, made: Report) -> Earlier:
    path.write_text(json.dumps(made.document()))
    return Earlier.read(path)


def test_median_and_95th_percentile() -> None:
    measured = figure("step", *range(1, 101))
    assert (measured.median, measured.at(0.95)) == (50.5, 96)
    assert figure("step", 3, 1, 2).at(0.95) == 3


def test_ratio_is_of_the_medians_and_needs_both_figures() -> None:
    made = report(figure("steps", 30, 90, 10), figure("plain", 20, 10, 80))
    made.compare("sequential", "steps / plain", "steps", "plain", 1.5)
    made.compare("wide", "steps / nothing", "steps", "missing")
    assert [(ratio.key, ratio.value) for ratio in made.ratios] == [("sequential", 1.5)]


@pytest.mark.parametrize(
    ("before", "after", "told"), [(100, 150, "+50%"), (100, 40, "-60%"), (100, 104, "–"), (100, 100, "–")]
)
def test_figure_tells_how_much_it_moved(tmp_path: Path, before: float, after: float, told: str) -> None:
    earlier = written(tmp_path / "bench.json", report(figure("step", before)))
    assert earlier.moved("figures", "step", after) == told


def test_ratio_tells_how_much_it_moved_and_a_new_figure_that_it_is_new(tmp_path: Path) -> None:
    made = report(figure("steps", 30), figure("plain", 20))
    made.compare("sequential", "steps / plain", "steps", "plain")
    earlier = written(tmp_path / "bench.json", made)
    assert earlier.moved("ratios", "sequential", 3.0) == "+100%"
    assert earlier.moved("figures", "other", 1.0) == "new"


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}", '{"figures": [], "ratios": {}}'])
def test_file_of_another_form_is_no_earlier_run(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "bench.json"
    if content is not None:
        path.write_text(content)
    assert not Earlier.read(path).found


def test_table_names_every_figure_with_its_movement(tmp_path: Path) -> None:
    earlier = written(tmp_path / "bench.json", report(figure("step", 100)))
    shown = StringIO()
    report(figure("step", 200), figure("refill", 7)).show(Console(file=shown, width=100), earlier)
    rows = {line.split("  ")[0].strip(): line for line in shown.getvalue().splitlines()}
    assert "+100%" in rows["the step"]
    assert "new" in rows["the refill"]
