"""What became of events, over the API and by commands that talk to it; what is dead is tried once more."""

import pytest

from engine.deliveries import DeliveryStatus
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import remote

HOOKED = """\
flow: hooked
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: hooked, methods: [POST], verify: none, id: X-Id}
    if: event.body.n != 7
    with: {n: "${{ event.body.n }}"}
steps:
  - {id: one, shell: echo done}
"""


async def sent(api: Api, n: Json, key: str) -> None:
    answer = await api.client.post("/hooks/hooked", json={"n": n}, headers={"X-Id": key})
    assert answer.status_code == 202, answer.text


async def became(api: Api, key: str, status: str) -> dict[str, Json]:
    """The event of a key, once that has become of it."""

    def found(page: Json) -> list[dict[str, Json]]:
        return [one for one in page["items"] if one["key"] == key and one["deliveries"][0]["status"] == status]

    (event,) = found(await api.until("/events", lambda page: bool(found(page))))
    return event


async def test_every_event_says_what_became_of_it_and_why(api: Api) -> None:
    await api.put(HOOKED)
    for n, key in ((1, "starts"), (7, "filtered"), ("many", "dead"), (1, "starts")):
        await sent(api, n, key)
    started = await became(api, "starts", "started")
    assert (await api.call("GET", f"/runs/{started['deliveries'][0]['run']}"))["inputs"] == {"n": 1}
    assert (started["repeats"], started["origin"]) == (1, "webhook:hooked")
    filtered = await became(api, "filtered", "filtered")
    assert "event.body.n != 7" in filtered["deliveries"][0]["reason"]
    dead = await became(api, "dead", "dead")
    assert "doesn't fit the flow" in dead["deliveries"][0]["error"]["message"]
    only = (await api.call("GET", "/events", params={"status": "dead", "flow": "hooked"}))["items"]
    assert [one["key"] for one in only] == ["dead"]
    assert (await api.call("GET", "/events", params={"flow": "other"}))["items"] == []
    page = await api.call("GET", "/events", params={"limit": 2})
    rest = await api.call("GET", "/events", params={"cursor": page["next"]})
    assert [one["key"] for one in page["items"] + rest["items"]] == ["dead", "filtered", "starts"]
    by_delivery = await api.call("GET", f"/events/{dead['deliveries'][0]['id']}")
    assert by_delivery["id"] == dead["id"]


async def test_what_is_dead_is_tried_again_with_the_version_of_now(api: Api) -> None:
    await api.put(HOOKED)
    await sent(api, "many", "first")
    await sent(api, "more", "second")
    first, second = await became(api, "first", "dead"), await became(api, "second", "dead")
    await api.put(HOOKED.replace("{type: integer}", "{type: string}"))
    again = await api.call("POST", f"/events/{first['deliveries'][0]['id']}/redrive")
    assert [one["event"] for one in again["items"]] == [first["id"]]
    await became(api, "first", "started")
    assert (await api.call("GET", f"/events/{second['id']}"))["deliveries"][0]["status"] == "dead"
    assert len((await api.call("POST", "/flows/hooked/redrive"))["items"]) == 1
    run = (await became(api, "second", "started"))["deliveries"][0]["run"]
    assert (await api.call("GET", f"/runs/{run}"))["inputs"] == {"n": "more"}
    refused = await api.call("POST", f"/events/{second['id']}/redrive", 409)
    assert (refused["code"], "hooked/hook: started" in refused["detail"]) == ("not_redrivable", True)


async def test_nothing_is_tried_again_of_a_flow_that_is_not_in_service(api: Api) -> None:
    await api.put(HOOKED)
    await sent(api, "many", "first")
    event = await became(api, "first", "dead")
    await api.call("POST", "/flows/hooked/disable")
    for path in (f"/events/{event['id']}/redrive", "/flows/hooked/redrive"):
        refused = await api.call("POST", path, 409)
        assert "not in service" in refused["detail"]
    assert (await api.call("POST", "/events/01ZZZZ/redrive", 404))["code"] == "unknown_record"
    assert (await api.call("POST", "/flows/absent/redrive"))["items"] == []


async def test_commands_see_the_events_of_a_service_elsewhere(api: Api) -> None:
    await api.put(HOOKED)
    await sent(api, "many", "first")
    await became(api, "first", "dead")
    service = remote(api)
    (found,) = (await service.events(flow="hooked", status=DeliveryStatus.DEAD, limit=5)).items
    assert (found.event.key, found.deliveries[0].status) == ("first", DeliveryStatus.DEAD)
    assert (await service.event(found.event.id[:20])).event == found.event
    assert [one.id for one in await service.redrive(found.event.id)] == [found.deliveries[0].id]
    await became(api, "first", "dead")
    assert len(await service.redrive_flow("hooked")) == 1
    with pytest.raises(StepboxError, match="no event"):
        await service.event("01ZZZZ")
    await service.close()
