"""A run as events: everything once, from any event on, and no end before the end."""

import json

from flows.values import Json
from tests.unit.ui.api.conftest import Api

TALKS = """\
flow: talks
steps:
  - id: one
    shell: echo first; echo second
  - id: two
    shell: echo third >&2; exit 1
    on_error: continue
"""


def parse(text: str) -> list[tuple[str, str, Json]]:
    """The events of a stream: id, name, document."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return events


def shown(events: list[tuple[str, str, Json]]) -> list[str]:
    names = []
    for _position, name, document in events:
        if name == "log":
            names.append(document["line"])
        else:
            names.append(f"{document.get('step', name)} {document['status']}")
    return names


async def test_a_run_is_followed_to_its_end(api: Api) -> None:
    await api.put(TALKS)
    run = await api.call("POST", "/flows/talks/runs", 202, json={})
    answer = await api.client.get(f"/api/v1/runs/{run['run_id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = parse(answer.text)
    names = shown(events)
    assert [name for name in names if name in {"first", "second", "third"}] == ["first", "second", "third"]
    assert names[-1] == "run succeeded"
    assert names.count("one succeeded") == names.count("two failed") == 1
    assert names.index("one succeeded") < names.index("two failed")
    assert events[-1][0].endswith("-end")
    assert "result" not in events[-2][2]


async def test_following_goes_on_after_any_event(api: Api) -> None:
    await api.put(TALKS)
    run = await api.call("POST", "/flows/talks/runs?wait=60", json={})
    path = f"/api/v1/runs/{run['run_id']}/events"
    events = parse((await api.client.get(path)).text)
    assert shown(events) == ["first", "second", "third", "one succeeded", "two failed", "run succeeded"]
    for position, (last, _name, _document) in enumerate(events):
        answer = await api.client.get(path, headers={"Last-Event-ID": last})
        if position == len(events) - 1:
            assert (answer.status_code, answer.content) == (204, b"")
            continue
        rest = shown(parse(answer.text))
        lines = [name for name in shown(events)[position + 1 :] if name in {"first", "second", "third"}]
        assert [name for name in rest if name in {"first", "second", "third"}] == lines
        assert rest[-1] == "run succeeded"
        assert set(shown(events)[position + 1 :]) <= set(rest)


async def test_what_cannot_be_followed_is_a_problem(api: Api) -> None:
    assert (await api.call("GET", "/runs/7ZZ/events", 404))["code"] == "unknown_record"
    await api.put(TALKS)
    run = await api.call("POST", "/flows/talks/runs?wait=60", json={})
    wrong = {"Last-Event-ID": "yesterday"}
    assert (await api.call("GET", f"/runs/{run['run_id']}/events", 422, headers=wrong))["code"] == "invalid_position"
