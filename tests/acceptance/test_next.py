"""``stepbox flows next``: when the schedules of a flow come due."""

from datetime import UTC, datetime

import pytest

from tests.acceptance.conftest import Stepbox

FLOW = """
flow: timed
triggers:
  - {id: nightly, schedule: {cron: "30 2 * * *", timezone: Europe/Berlin, jitter: 10m}}
  - {id: often, schedule: {interval: 6h}}
  - {id: over, schedule: {cron: "@daily", end: 2001-01-01}}
  - {id: by_hand, manual: {}}
steps: [{id: a, shell: "true"}]
"""


@pytest.mark.parametrize("source", ["timed", "timed.yaml", "-"])
def test_the_next_times_of_a_flow_by_name_file_and_standard_input(stepbox: Stepbox, source: str) -> None:
    path = stepbox.directory / stepbox.flow("timed", FLOW)
    if source == "timed":
        assert stepbox("flows", "apply", "timed.yaml").status == 0
        path.unlink()
    before = datetime.now(UTC)
    outcome = stepbox("flows", "next", source, "--count", "9", "--output", "json", stdin=FLOW if source == "-" else "")
    assert (outcome.status, outcome.stderr) == (0, "")
    times = outcome.json()
    assert len(times) == 9
    due = [datetime.fromisoformat(time["due_at"]) for time in times]
    assert due == sorted(due)
    assert due[0] > before
    for time in times:
        scheduled = datetime.fromisoformat(time["scheduled_at"])
        delay = (datetime.fromisoformat(time["due_at"]) - scheduled).total_seconds()
        if time["trigger"] == "nightly":
            assert (time["timezone"], scheduled.isoformat()[10:16]) == ("Europe/Berlin", "T02:30")
            assert 0 < delay < 600
        else:
            assert (time["trigger"], time["timezone"], delay) == ("often", "UTC", 0)


def test_the_same_times_are_shown_to_people(stepbox: Stepbox) -> None:
    stepbox.flow("timed", FLOW)
    outcome = stepbox("flows", "next", "timed.yaml", "--count", "9")
    assert outcome.status == 0
    lines = outcome.stdout.splitlines()
    assert lines[0].split() == ["TRIGGER", "TIME", "ZONE", "IN"]
    assert len(lines) == 10
    nightly = next(line for line in lines if line.startswith("nightly"))
    assert "02:30:00+0" in nightly
    assert "Europe/Berlin" in nightly


def test_a_flow_without_a_time_to_come_says_so(stepbox: Stepbox) -> None:
    stepbox.flow("plain", 'flow: plain\nsteps: [{id: a, shell: "true"}]')
    assert "comes due" in stepbox("flows", "next", "plain.yaml").stdout
    assert stepbox("flows", "next", "plain.yaml", "-o", "json").json() == []


def test_a_flow_that_is_not_there_or_not_right(stepbox: Stepbox) -> None:
    unknown = stepbox("flows", "next", "nothing", "-o", "json")
    assert (unknown.status, unknown.json()["error"]["code"]) == (2, "unknown_flow")
    absent = stepbox("flows", "next", "nothing.yaml", "-o", "json")
    assert (absent.status, absent.json()["error"]["code"]) == (2, "invalid_call")
    stepbox.flow("wrong", FLOW.replace("30 2 * * *", "0 0 30 2 *").replace("Europe/Berlin", "Europe/Berln"))
    wrong = stepbox("flows", "next", "wrong.yaml", "-o", "json")
    assert wrong.status == 2
    assert [problem["code"] for problem in wrong.json()["error"]["problems"]] == ["invalid_cron", "unknown_timezone"]
