"""The flows that Stepbox ships, as they are."""

import re

import pytest

from tests.acceptance.conftest import Stepbox


@pytest.mark.parametrize("name", ["close_stale_tasks", "word_frequencies"])
def test_library_flows_run_as_they_are(stepbox: Stepbox, name: str) -> None:
    assert stepbox("init", "--example", name).status == 0
    outcome = stepbox("run", f"{name}.yaml", "--output", "json")
    assert outcome.status == 0, outcome.stdout
    assert re.match(r"[0-9A-Z]{26}$", outcome.json()["run_id"])


COLUMNS = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour"


def observation(
    origin: str, month: int, hour: int, *, gust: str = "NA", rain: str = "0", visibility: str = "10"
) -> str:
    at = f"2013-{month:02d}-07T{hour:02d}:00:00Z"
    return f"{origin},2013,{month},7,{hour},39.0,26.1,59.4,270,10.4,{gust},{rain},1012,{visibility},{at}"


def test_flight_weather_reports_on_a_csv_beside_it(stepbox: Stepbox) -> None:
    assert stepbox("init", "--example", "flight_weather").status == 0
    rows = [observation(origin, month, 1) for origin in ("EWR", "JFK", "LGA") for month in range(1, 13)]
    rows += [
        observation("EWR", 2, 2, visibility="0.5"),
        observation("EWR", 2, 3, gust="40.3"),
        observation("JFK", 11, 2, rain="0.31"),
        observation("JFK", 11, 3, gust="NA", visibility="NA"),
    ]
    (stepbox.directory / "weather.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    outcome = stepbox("run", "flight_weather.yaml", "--output", "json")
    assert outcome.status == 0, outcome.stdout
    output = outcome.json()["output"]
    assert (output["hours"], output["hard_hours"]) == (40, 3)
    table = output["table"].splitlines()
    assert table[0] == "| month | EWR | JFK | LGA |"
    assert (table[3], table[12]) == ("| 02 | 66.7 % | 0.0 % | 0.0 % |", "| 11 | 0.0 % | 33.3 % | 0.0 % |")
    assert "2013-02: 1 of the 20 worst days" in output["worst_months"]


def test_flight_weather_without_its_data_says_what_is_missing(stepbox: Stepbox) -> None:
    assert stepbox("init", "--example", "flight_weather").status == 0
    outcome = stepbox("run", "flight_weather.yaml", "--output", "json")
    assert outcome.status == 1
    assert "weather.csv" in outcome.json()["steps"]["load"]["error"]["message"]
