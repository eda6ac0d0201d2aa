"""The flows that Stepbox ships: each is copied whole and valid, and the three oldest do what they say.

The others are in ``test_library_reports.py`` and ``test_library_operations.py``.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.acceptance.conftest import ROOT, Stepbox, Trial, at_once

LIBRARY = ROOT / "flows" / "library"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", ".stepbox"} & set(path.relative_to(folder).parts)
    }


def test_every_example_is_copied_whole(examples: Mapping[str, Path]) -> None:
    assert list(examples) == sorted(path.name for path in LIBRARY.iterdir() if path.is_dir())
    for name, here in examples.items():
        assert files_of(here) == files_of(LIBRARY / name), name


def test_every_example_validates_where_it_was_copied(stepbox: Stepbox, examples: Mapping[str, Path]) -> None:
    flows = [str(path) for here in examples.values() for path in sorted(here.glob("*.yaml"))]
    validated = stepbox("validate", *flows, "--output", "json")
    assert validated.status == 0, validated.stdout
    assert len(flows) > len(examples)


def test_init_keeps_what_is_yours_and_says_so(trial: Callable[..., Trial]) -> None:
    mine = trial("sales_report")
    (mine.directory / "data" / "sales.csv").write_text("mine\n")
    (mine.directory / "sales_report.py").unlink()
    again = mine.call("init", "--example", "sales_report")
    assert again.status == 0
    assert re.search(r"✓ example +sales_report\.py\n", again.stdout)
    assert re.search(r"– kept +data/sales\.csv +yours, it differs from the library's\n", again.stdout)
    assert "Run it: stepbox run sales_report.yaml" in again.stdout
    assert (mine.directory / "data" / "sales.csv").read_text() == "mine\n"


TASKS = """
for number, age in enumerate(["40 days ago", "31 days ago", "29 days ago", "50 days ago"]):
    status = "open" if number == 3 else "in_progress"
    tools.create_task(taskId=f"t-{number}", title=f"Task {number}", statusId=status, updatedAt=age)
"""
STATES = "return {t['id']: t['statusId'] for t in tools.search_tasks()}"


def test_close_stale_tasks_archives_those_and_no_others(trial: Callable[..., Trial]) -> None:
    here = trial("close_stale_tasks")
    here.look(TASKS, "create_task")
    ran, unreadable = at_once(here.run, lambda: trial("close_stale_tasks", "other").run("-i", "older_than=a while ago"))
    assert (ran.status, ran.json()["output"]) == (0, {"archived": 2})
    states = here.look(STATES, "search_tasks")
    assert states == {"t-0": "archived", "t-1": "archived", "t-2": "in_progress", "t-3": "open"}
    report = here.document("stale-tasks").splitlines()
    assert report[0] == "# Archived as stale"
    assert [line[:14] for line in report[2:]] == ["- Task 0 (t-0)", "- Task 1 (t-1)"]
    assert unreadable.status == 1
    assert "'a while ago'" in unreadable.json()["steps"]["stale"]["error"]["message"]


def test_word_frequencies_counts_over_all_texts(trial: Callable[..., Trial]) -> None:
    here = trial("word_frequencies")
    texts = ["a b a", "b a c", "c c c c d"]
    words = Counter(" ".join(texts).split())
    ran = here.run("-i", 'texts=["a b a", "b a c", "c c c c d"]', "-i", "top=3")
    assert ran.json()["output"] == [{"word": word, "count": words[word]} for word in ("c", "a", "b")]
    assert here.run("-i", "texts=[1]").json()["error"]["code"] == "invalid_input"


COLUMNS = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour"


def observation(
    origin: str, month: int, hour: int, *, gust: str = "NA", rain: str = "0", visibility: str = "10"
) -> str:
    at = f"2013-{month:02d}-07T{hour:02d}:00:00Z"
    return f"{origin},2013,{month},7,{hour},39.0,26.1,59.4,270,10.4,{gust},{rain},1012,{visibility},{at}"


def test_flight_weather_reports_on_a_csv_beside_it(trial: Callable[..., Trial]) -> None:
    here, broken = trial("flight_weather"), trial("flight_weather", "broken")
    rows = [observation(origin, month, 1) for origin in ("EWR", "JFK", "LGA") for month in range(1, 13)]
    rows += [
        observation("EWR", 2, 2, visibility="0.5"),
        observation("EWR", 2, 3, gust="40.3"),
        observation("JFK", 11, 2, rain="0.31"),
        observation("JFK", 11, 3, gust="NA", visibility="NA"),
    ]
    (here.directory / "weather.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    ran, missing = at_once(here.run, lambda: broken.run("-i", "path=storms.csv"))
    assert ran.status == 0, ran.stdout
    assert ran.json()["output"] == {"document": "flight-weather-2013", "hours": 40, "hard_hours": 3}
    table = ran.json()["steps"]["reshape"]["result"]["table"].splitlines()
    assert table[0] == "| month |    EWR |    JFK |    LGA |"
    assert table[3] == "| 2     | 66.7 % |  0.0 % |  0.0 % |"
    assert table[12] == "| 11    |  0.0 % | 33.3 % |  0.0 % |"
    days = ran.json()["steps"]["summarise"]["result"].splitlines()
    assert days == ["- 2013-02: 1 of the 2 worst days", "- 2013-11: 1 of the 2 worst days"]
    assert missing.status == 1
    assert "storms.csv" in missing.json()["steps"]["load"]["error"]["message"]
