"""Flows over the API: applied once, changed under conditions, listed, disabled, deleted."""

from tests.unit.ui.api.conftest import QUICK, Api

CHILD = "flow: child\nsteps: [{id: a, shell: echo 1}]\n"
PARENT = "flow: parent\nsteps: [{id: c, flow: child}]\n"
CHANGED = QUICK.replace("n is", "n =")


async def test_a_flow_is_created_updated_and_kept(api: Api) -> None:
    created = await api.client.put("/api/v1/flows/quick", json={"text": QUICK})
    assert created.status_code == 201
    assert (created.json()["change"], created.json()["version"], created.json()["previous"]) == ("created", 1, None)
    again = await api.client.put("/api/v1/flows/quick", json={"text": QUICK})
    assert (again.status_code, again.json()["change"]) == (200, "unchanged")
    assert again.headers["etag"] == created.headers["etag"]
    updated = await api.client.put("/api/v1/flows/quick", json={"text": CHANGED})
    assert (updated.status_code, updated.json()["change"], updated.json()["version"]) == (200, "updated", 2)
    assert '-    shell: echo "n is $INPUT_N"\n+    shell: echo "n = $INPUT_N"' in updated.json()["diff"]
    shown = await api.call("GET", "/flows/quick")
    assert (shown["text"], shown["version"], shown["versions"], shown["state"]) == (CHANGED, 2, 2, "enabled")
    versions = await api.call("GET", "/flows/quick/versions?limit=1")
    assert ([one["version"] for one in versions["items"]], versions["next"]) == ([2], "2")
    versions = await api.call("GET", "/flows/quick/versions?limit=1&cursor=2")
    assert ([one["text"] for one in versions["items"]], versions["next"]) == ([QUICK], None)
    assert (await api.call("GET", "/flows/quick/versions/1"))["text"] == QUICK
    await api.call("GET", "/flows/quick/versions/3", 404)
    await api.call("GET", "/flows/quick/versions/0", 422)


async def test_conditions_keep_changes_of_others(api: Api) -> None:
    new = {"If-None-Match": "*"}
    answer = await api.client.put("/api/v1/flows/quick", json={"text": QUICK}, headers=new)
    assert answer.status_code == 201
    first = answer.headers["etag"]
    await api.call("PUT", "/flows/quick", 412, json={"text": CHANGED}, headers=new)
    await api.call("PUT", "/flows/quick", 200, json={"text": CHANGED}, headers={"If-Match": first})
    refused = await api.call("PUT", "/flows/quick", 412, json={"text": QUICK}, headers={"If-Match": first})
    assert refused["code"] == "precondition_failed"
    assert (await api.call("GET", "/flows/quick"))["text"] == CHANGED
    await api.call("PUT", "/flows/quick", 200, json={"text": QUICK}, headers={"If-Match": "*"})
    await api.call("PUT", "/flows/child", 412, json={"text": CHILD}, headers={"If-Match": "*"})
    await api.call("PUT", "/flows/quick", 422, json={"text": QUICK}, headers={"If-None-Match": first})


async def test_what_is_known_already_is_not_sent_again(api: Api) -> None:
    await api.put(QUICK)
    tag = (await api.client.get("/api/v1/flows/quick")).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = await api.client.get("/api/v1/flows/quick", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    await api.call("POST", "/flows/quick/disable")
    answer = await api.client.get("/api/v1/flows/quick", headers={"If-None-Match": tag})
    assert answer.json()["state"] == "disabled"


async def test_flows_are_applied_together_or_not_at_all(api: Api) -> None:
    broken = "flow: broken\nsteps: [{id: a, shel: echo 1}]\n"
    refused = await api.call("POST", "/flows", 422, json={"flows": [{"text": CHILD}, {"text": broken}]})
    assert refused["code"] == "invalid_flow"
    assert [(one["file"], one["line"]) for one in refused["problems"]] == [("flows[1]", 2)]
    assert refused["problems"][0]["fix"]
    assert (await api.call("POST", "/flows", 404, json={"flows": [{"text": PARENT}]}))["code"] == "unknown_flow"
    twice = [{"text": CHILD}, {"text": CHILD.replace("1", "2")}]
    assert (await api.call("POST", "/flows", 422, json={"flows": twice}))["code"] == "flow_given_twice"
    both = {"flows": [{"text": PARENT}, {"text": CHILD}]}
    told = await api.call("POST", "/flows", json={**both, "dry_run": True})
    assert [(one["flow"], one["change"], one["version"]) for one in told["items"]] == [
        ("parent", "created", None),
        ("child", "created", None),
    ]
    assert await api.call("GET", "/flows") == {"items": [], "next": None}
    done = await api.call("POST", "/flows", json=both)
    assert [(one["flow"], one["version"]) for one in done["items"]] == [("parent", 1), ("child", 1)]


async def test_the_files_of_a_flow_are_kept_with_it(api: Api) -> None:
    text = "flow: filed\nsteps: [{id: a, shell: {file: ./step.sh}}]\noutput: ${{ steps.a.result }}\n"
    refused = await api.call("PUT", "/flows/filed", 422, json={"text": text})
    assert refused["problems"][0]["code"] == "unreadable_file"
    await api.call("PUT", "/flows/filed", 201, json={"text": text, "files": {"step.sh": "echo from a file"}})
    run = await api.call("POST", "/flows/filed/runs?wait=60", json={})
    assert run["output"] == "from a file"


async def test_a_text_under_another_name_is_refused(api: Api) -> None:
    refused = await api.call("PUT", "/flows/other", 422, json={"text": QUICK})
    assert (refused["code"], refused["fix"]) == ("misnamed_flow", "put it to /flows/quick")
    await api.call("GET", "/flows/Not-A-Name", 422)


async def test_validation_says_every_problem_and_keeps_nothing(api: Api) -> None:
    assert await api.call("POST", "/flows/validate", json={"text": QUICK}) == {
        "valid": True,
        "flow": "quick",
        "problems": [],
    }
    found = await api.call("POST", "/flows/validate", json={"text": "flow: x\nsteps: 3\nnope: 1\n"})
    assert (found["valid"], found["flow"], len(found["problems"])) == (False, None, 2)
    assert (await api.call("GET", "/flows"))["items"] == []


async def test_a_disabled_flow_starts_nothing_not_even_as_a_subflow(api: Api) -> None:
    await api.call("POST", "/flows", json={"flows": [{"text": PARENT}, {"text": CHILD}]})
    assert (await api.call("POST", "/flows/child/disable"))["state"] == "disabled"
    for flow in ("child", "parent"):
        refused = await api.call("POST", f"/flows/{flow}/runs", 409, json={})
        assert (refused["code"], refused["fix"]) == ("flow_disabled", "enable it: stepbox flows enable child")
    assert (await api.call("GET", "/runs"))["items"] == []
    await api.call("POST", "/flows/child/enable")
    assert (await api.call("POST", "/flows/parent/runs?wait=60", json={}))["status"] == "succeeded"
    await api.call("POST", "/flows/nothing/disable", 404)


async def test_a_deleted_flow_leaves_its_runs(api: Api) -> None:
    await api.put(CHILD)
    run = await api.call("POST", "/flows/child/runs?wait=60", json={})
    await api.call("DELETE", "/flows/child", 204)
    await api.call("DELETE", "/flows/child", 404)
    for path in ("/flows/child", "/flows/child/versions", "/flows/child/versions/1"):
        await api.call("GET", path, 404)
    await api.call("POST", "/flows/child/runs", 404, json={})
    assert (await api.call("GET", f"/runs/{run['run_id']}"))["status"] == "succeeded"


async def test_flows_are_listed_by_pages(api: Api) -> None:
    for name in ("c", "a", "b"):
        await api.put(f"flow: {name}\nsteps: [{{id: s, shell: echo 1}}]\n")
    page = await api.call("GET", "/flows?limit=2")
    assert ([one["flow"] for one in page["items"]], page["next"]) == (["a", "b"], "b")
    page = await api.call("GET", "/flows?limit=2&cursor=b")
    assert ([one["flow"] for one in page["items"]], page["next"]) == (["c"], None)
    for wrong in ("limit=0", "limit=1001", "cursor=%20", "cursor=ABC", "nothing=1"):
        await api.call("GET", f"/flows?{wrong}", 422)
