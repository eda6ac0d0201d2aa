"""The policy over the API, and by commands that talk to it."""

import pytest

from engine.service import Precondition
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import remote

TIGHT = {"limits": {"memory": "100MB"}, "networks": ["none"]}


async def test_policy_is_read_set_and_kept_in_versions(api: Api) -> None:
    assert await api.call("GET", "/policy") == {
        "workspace": "default",
        "number": 0,
        "policy": {},
        "set_by": None,
        "set_at": None,
    }
    asked = await api.call("PUT", "/policy", json={"policy": TIGHT, "dry_run": True})
    assert (asked["change"], asked["number"], asked["previous"]) == ("created", 0, 0)
    made = await api.call("PUT", "/policy", json={"policy": TIGHT})
    assert (made["change"], made["number"], made["policy"], made["set_by"]) == ("created", 1, TIGHT, "admin")
    again = await api.call("PUT", "/policy", json={"policy": TIGHT})
    assert (again["change"], again["number"], again["diff"]) == ("unchanged", 1, "")
    changed = await api.call("PUT", "/policy", json={"policy": {**TIGHT, "concurrent_code": 2}})
    assert (changed["change"], changed["number"], changed["previous"]) == ("updated", 2, 1)
    assert "+concurrent_code: 2" in changed["diff"].splitlines()
    listed = await api.call("GET", "/policy/versions", params={"limit": 1})
    assert [one["number"] for one in listed["items"]] == [2]
    rest = await api.call("GET", "/policy/versions", params={"cursor": listed["next"]})
    assert [one["number"] for one in rest["items"]] == [1]
    assert (await api.call("GET", "/policy/versions/1"))["policy"] == TIGHT
    assert (await api.call("GET", "/policy/versions/3", 404))["code"] == "unknown_record"


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"limit": {}}, "limit: there is no key"),
        ({"limits": {"memory": "lots"}}, "limits.memory: "),
        ({"images": ["a b"]}, "images[0]: "),
        ({"full_network": "refuse"}, "full_network: "),
    ],
)
async def test_what_is_no_policy_is_refused_and_changes_nothing(api: Api, policy: Json, says: str) -> None:
    assert says in (await api.call("PUT", "/policy", 422, json={"policy": policy}))["detail"]
    assert (await api.call("GET", "/policy"))["number"] == 0


async def test_conditional_requests(api: Api) -> None:
    first = await api.client.get("/api/v1/policy")
    tag = first.headers["ETag"]
    assert (await api.client.get("/api/v1/policy", headers={"If-None-Match": tag})).status_code == 304
    url, body = "/api/v1/policy", {"policy": TIGHT}
    assert (await api.client.put(url, json=body, headers={"If-Match": '"policy-7"'})).status_code == 412
    made = await api.client.put(url, json=body, headers={"If-Match": tag})
    assert (made.status_code, made.headers["ETag"]) == (200, '"policy-1"')
    late = await api.client.put(url, json={"policy": {}}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await api.client.get(url)).headers["ETag"] == '"policy-1"'


async def test_commands_set_the_policy_of_a_service_elsewhere(api: Api) -> None:
    service = remote(api)
    assert (await service.policy()).number == 0
    asked = await service.set_policy(TIGHT, dry_run=True)
    assert (asked.change, asked.version.number) == ("created", 0)
    made = await service.set_policy(TIGHT, precondition=Precondition(tag="policy-0"))
    assert (made.version.number, made.version.document) == (1, TIGHT)
    with pytest.raises(StepboxError, match="isn't the one that the request expects"):
        await service.set_policy({}, precondition=Precondition(tag="policy-0"))
    assert (await service.policy_version(1)) == made.version == await service.policy()
    assert [one.number for one in (await service.policy_versions()).items] == [1]
    await service.close()
