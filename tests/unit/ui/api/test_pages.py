"""Listings of what there are few of come in pages, too."""

from flows.values import Json
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_waiting import ASKS


async def pages(api: Api, path: str, key: str) -> list[Json]:
    """The keys of all items, asked for one at a time."""
    found, query = [], "limit=1"
    while True:
        page = await api.call("GET", f"{path}?{query}")
        assert len(page["items"]) <= 1
        found += [item[key] for item in page["items"]]
        if page["next"] is None:
            return found
        query = f"limit=1&cursor={page['next']}"


async def test_tokens_secrets_and_approvals_come_in_pages(api: Api) -> None:
    service = api.serving.service()
    for name in ("one", "two"):
        await service.create_principal(name, role="editor")
        await service.create_token(name)
        await service.create_workspace(f"ws_{name}")
        await service.set_secret(f"key_{name}", "hush-hush")
        run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
        await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    assert await pages(api, "/tokens", "name") == ["admin", "one", "two"]
    assert await pages(api, "/secrets", "name") == ["key_one", "key_two"]
    assert await pages(api, "/principals", "name") == ["admin", "one", "two"]
    assert await pages(api, "/workspaces", "name") == ["default", "ws_one", "ws_two"]
    asked = [one.id for one in (await service.approvals(run=None, undecided=True)).items]
    assert len(asked) == 2
    assert await pages(api, "/approvals", "id") == asked
    for path in ("/tokens", "/secrets", "/workspaces"):
        refused = await api.call("GET", f"{path}?cursor=nothing", 422)
        assert refused["code"] == "invalid_position"
