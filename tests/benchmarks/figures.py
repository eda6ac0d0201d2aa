"""What a benchmark measured: figures with all their samples, ratios of figures, and how both moved since another run."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from rich.console import Console
from rich.table import Table

Unit = Literal["ms", "MB", "kB", "1/s", "%"]
NOISE = 0.05
"""A figure that moved by less than this share of itself is said not to have moved."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much to measure: ``seconds`` of ``rate`` events a minute, ``runs`` of one service, ``rounds`` of the rest."""

    rounds: int
    seconds: int
    rate: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing measured, every sample of it. ``samples`` in ``unit``; ``key`` is stable, ``name`` is for people."""

    key: str
    name: str
    unit: Unit
    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def at(self, share: float) -> float:
        """The sample that this share of all are no larger than, such as 0.99; the largest of too few."""
        ordered = sorted(self.samples)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median of one figure over that of another of the same run, with what it should at most be."""

    key: str
    name: str
    value: float
    target: float | None = None


@dataclass(kw_only=True)
class Report:
    """A whole run of the benchmarks."""

    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def add(self, figures: Iterable[Figure]) -> None:
        self.figures.extend(figures)

    def compare(self, key: str, name: str, over: str, under: str, target: float | None = None) -> None:
        """Add a ratio of two figures, where both were measured."""
        medians = {figure.key: figure.median for figure in self.figures}
        if over in medians and under in medians:
            self.ratios.append(Ratio(key=key, name=name, value=medians[over] / medians[under], target=target))

    def document(self) -> dict[str, Any]:
        machine = {"system": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version()}
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine | {"load": os.getloadavg()[0]},
            "figures": {
                figure.key: {
                    "name": figure.name,
                    "unit": figure.unit,
                    "median": figure.median,
                    "samples": figure.samples,
                }
                for figure in self.figures
            },
            "ratios": {ratio.key: {"name": ratio.name, "value": ratio.value} for ratio in self.ratios},
        }

    def show(self, console: Console, before: "Earlier") -> None:
        table = Table(box=None, header_style="bold")
        for column in ("", "median", "p95", "p99", "fastest", *(["moved"] if before.found else [])):
            table.add_column(column, justify="right" if column else "left")
        for figure in self.figures:
            best = min(figure.samples) if figure.unit != "1/s" else max(figure.samples)
            shown = [_quantity(value, figure.unit) for value in (figure.median, figure.at(0.95), figure.at(0.99), best)]
            moved = [before.moved("figures", figure.key, figure.median)] if before.found else []
            table.add_row(figure.name, *shown, *moved)
        console.print(table)
        ratios = Table(box=None, header_style="bold")
        for column in ("as ratios of this run", "", "target", *(["moved"] if before.found else [])):
            ratios.add_column(column, justify="left" if column.startswith("as") else "right")
        for ratio in self.ratios:
            moved = [before.moved("ratios", ratio.key, ratio.value)] if before.found else []
            target = "" if ratio.target is None else f"≤ {ratio.target:g}×"
            ratios.add_row(ratio.name, f"{ratio.value:.2f}×", target, *moved)
        console.print(ratios)


class Earlier:
    """An earlier run, to say how much a value moved since; ``found`` is false where there is none."""

    def __init__(self, document: Mapping[str, Any] | None) -> None:
        self._document = document or {}
        self.found = document is not None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON of an earlier run; a file that is missing or of another form counts as none."""
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError):
            return cls(None)
        wellformed = isinstance(document, dict) and all(
            isinstance(document.get(k), dict) for k in ("figures", "ratios")
        )
        return cls(document if wellformed else None)

    def moved(self, kind: Literal["figures", "ratios"], key: str, value: float) -> str:
        entry = self._document.get(kind, {}).get(key)
        if entry is None:
            return "new"
        before = entry["median" if kind == "figures" else "value"]
        share = value / before - 1
        return "–" if abs(share) < NOISE else f"{share:+.0%}"


def _quantity(value: float, unit: Unit) -> str:
    return f"{value:,.1f} {unit}"
