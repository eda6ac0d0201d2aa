"""Artifacts over the API, and by commands that talk to it."""

import asyncio

import pytest

from flows.errors import StepboxError
from tests.unit.ui.api.conftest import Api
from tests.unit.ui.api.test_remote import remote
from ui.api.artifacts import disposition

LEAVES = """\
flow: leaves
steps:
  - id: write
    shell: |
      mkdir "$ARTIFACTS/sub"
      printf '<script>' > "$ARTIFACTS/sub/ü \\"x\\".html"
      printf two > "$ARTIFACTS/b.txt"
"""


async def left(api: Api) -> str:
    return str((await api.call("POST", "/runs", params={"wait": 60}, json={"flow": {"text": LEAVES}}))["run_id"])


async def test_artifacts_are_listed_by_pages_and_downloaded(api: Api) -> None:
    run = await left(api)
    first = await api.call("GET", f"/runs/{run}/artifacts", params={"limit": 1})
    rest = await api.call("GET", f"/runs/{run}/artifacts", params={"cursor": first["next"]})
    found = {one["path"]: one for one in [*first["items"], *rest["items"]]}
    assert set(found) == {'sub/ü "x".html', "b.txt"}
    assert rest["next"] is None
    page = next(one for path, one in found.items() if path != "b.txt")
    answer = await api.client.get(f"/api/v1/artifacts/{page['id']}")
    assert answer.content == b"<script>"
    # Whatever it holds, no browser shows it as a page of ours.
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "%C3%BC" in answer.headers["content-disposition"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["content-length"] == "8"


async def test_an_unknown_one_is_not_found_and_a_damaged_one_is_said_to_be(api: Api) -> None:
    assert (await api.call("GET", "/artifacts/01K6ZQ7B3C5D7E9F1G3H5J7K9M", 404))["code"] == "unknown_record"
    run = await left(api)
    (one, *_) = (await api.call("GET", f"/runs/{run}/artifacts"))["items"]
    content = api.home / "artifacts" / one["sha256"][:2] / one["sha256"]
    content.write_bytes(b"something else")
    answer = await api.client.get(f"/api/v1/artifacts/{one['id']}")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_damaged")


async def test_a_part_is_sent_and_what_is_damaged_is_never_sent_by_half(api: Api) -> None:
    run = await left(api)
    found = {one["path"]: one for one in (await api.call("GET", f"/runs/{run}/artifacts"))["items"]}
    path = f"/api/v1/artifacts/{found['b.txt']['id']}"
    whole = await api.client.get(path)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, b"two", "bytes")
    assert whole.headers["content-type"] == "text/plain"
    assert "sandbox" in whole.headers["content-security-policy"]
    part = await api.client.get(path, headers={"Range": "bytes=1-"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"wo", "bytes 1-2/3")
    assert part.headers["content-length"] == "2"
    same = {"Range": "bytes=-1", "If-Range": whole.headers["etag"]}
    assert (await api.client.get(path, headers=same)).content == b"o"
    other = {"Range": "bytes=-1", "If-Range": '"another"'}
    assert (await api.client.get(path, headers=other)).content == b"two"
    beyond = await api.client.get(path, headers={"Range": "bytes=3-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */3")
    assert beyond.json()["code"] == "unsatisfiable_range"
    about = await api.call("GET", f"/artifacts/{found['b.txt']['id']}/about")
    assert (about["run_id"], about["name"]) == (run, "write/b.txt")
    await api.call("GET", f"/runs/{run}/artifacts?cursor=nothing", 422)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("a/b.txt", "attachment; filename=\"b.txt\"; filename*=UTF-8''b.txt"),
        (
            'x";\r\nSet-Cookie: a',
            "attachment; filename=\"x____Set-Cookie_ a\"; filename*=UTF-8''x%22%3B%0D%0ASet-Cookie%3A%20a",
        ),
        ("ü\ud800", "attachment; filename=\"__\"; filename*=UTF-8''%C3%BC%3F"),
    ],
)
def test_the_name_to_save_by_is_only_a_name(path: str, sent: str) -> None:
    assert disposition(path) == sent


async def test_contents_from_elsewhere_leave_nothing_behind(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await left(api)
    (one, *_) = (await api.call("GET", f"/runs/{run}/artifacts"))["items"]
    contents = api.serving._store.artifacts.contents
    here = contents._directory
    monkeypatch.setattr(contents, "_url", f"local://{here}")
    monkeypatch.setattr(contents, "_directory", None)
    assert (await api.client.get(f"/api/v1/artifacts/{one['id']}")).status_code == 200
    assert [file for file in contents.spool._root.rglob("*") if file.is_file()] == []


async def test_commands_fetch_from_a_service_elsewhere(api: Api) -> None:
    run = await left(api)
    service = remote(api)
    records = await service.run_artifacts(run)
    files = await service.fetch_artifacts([one.artifact for one in records])
    contents = [await asyncio.to_thread(file.read_bytes) for file in files]
    assert sorted(contents) == [b"<script>", b"two"]
    content = api.home / "artifacts" / records[0].sha256[:2] / records[0].sha256
    content.write_bytes(b"something else")
    with pytest.raises(StepboxError, match="damaged"):
        await service.fetch_artifacts([records[0].artifact])
    await service.close()
    assert not any(file.parent.exists() for file in files)
