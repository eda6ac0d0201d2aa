"""``stepbox serve`` starts runs by itself: by webhooks, events, times, files and queues, and loses none when it is killed."""

import base64
import hashlib
import hmac
import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from tests.acceptance.conftest import Stepbox
from tests.acceptance.services import Service, serving, until

KEY = b"a key of 24 bytes, or so"
GITHUB = "a-github-secret"
REDIS = os.environ.get("STEPBOX_TEST_REDIS_URL")
ALL = """\
flow: everything
inputs: {of: {type: string}}
triggers:
  - {id: standard, webhook: {path: standard, secret: standard_key}, with: {of: "${{ event.body.of }}"}}
  - {id: github, webhook: {path: github, verify: github, secret: github_key}, with: {of: "${{ event.body.of }}"}}
  - {id: created, event: {type: "order.*"}, with: {of: "${{ event.data.of }}"}}
  - {id: inbox, file: {path: INBOX, glob: "*.csv", settle: 100ms}, with: {of: "${{ event.name }}"}}
  - {id: tick, schedule: {interval: 1s}, with: {of: "${{ event.scheduled_at }}"}}
QUEUE
steps:
  - id: one
    shell: echo "$INPUT_OF"
    with: {of: "${{ trigger.id }} ${{ inputs.of }}"}
output: ${{ steps.one.result }}
"""
BURST = """\
flow: burst
inputs: {n: {type: integer}}
triggers:
  - {id: hook, webhook: {path: burst, secret: standard_key}, with: {n: "${{ event.body.n }}"}}
steps:
  - id: one
    shell: echo $INPUT_N
    with: {n: "${{ inputs.n }}"}
output: ${{ steps.one.result }}
"""


def signed(service: Service, path: str, value: dict[str, object], identity: str) -> httpx.Response:
    body = json.dumps(value).encode()
    moment = int(time.time())
    if path == "github":
        digest = hmac.digest(GITHUB.encode(), body, hashlib.sha256).hex()
        headers = {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": identity}
    else:
        digest = base64.b64encode(
            hmac.digest(KEY, b"%s.%d.%s" % (identity.encode(), moment, body), hashlib.sha256)
        ).decode()
        headers = {"webhook-id": identity, "webhook-timestamp": str(moment), "webhook-signature": f"v1,{digest}"}
    headers["Content-Type"] = "application/json"
    return httpx.post(f"http://127.0.0.1:{service.port}/hooks/{path}", content=body, headers=headers, timeout=60)


def set_secrets(stepbox: Stepbox) -> None:
    stepbox("secrets", "set", "standard_key", stdin=f"whsec_{base64.b64encode(KEY).decode()}")
    stepbox("secrets", "set", "github_key", stdin=GITHUB)


def outputs(service: Service, flow: str) -> list[str]:
    """What the runs of a flow that have ended came to."""
    items = service.call("GET", "/runs", params={"flow": flow, "limit": 1000})["items"]
    return [service.call("GET", f"/runs/{run['run_id']}")["output"] for run in items if run["status"] == "succeeded"]


def test_everything_that_starts_runs_starts_them_once(stepbox: Stepbox) -> None:
    set_secrets(stepbox)
    inbox = stepbox.directory / "inbox"
    inbox.mkdir()
    stream = f"test:{uuid4().hex}"
    queue = (
        ""
        if REDIS is None
        else (
            f'  - {{id: jobs, queue: {{stream: "{stream}", url: "{REDIS}"}}, with: {{of: "${{{{ event.fields.of }}}}"}}}}\n'
        )
    )
    expected = {"standard a", "github b", "created c", "inbox d.csv"} | (set() if REDIS is None else {"jobs e"})
    with serving(stepbox) as service:
        text = ALL.replace("INBOX", str(inbox)).replace("QUEUE\n", queue)
        service.call("PUT", "/flows/everything", json={"text": text})
        until(lambda: any(one.startswith("tick ") for one in outputs(service, "everything")))
        for path, of in (("standard", "a"), ("github", "b"), ("standard", "a")):
            answer = signed(service, path, {"of": of}, f"id-{of}")
            assert (answer.status_code, answer.json()["status"]) == (202, "started"), answer.text
        event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "data": {"of": "c"}}
        for _ in range(2):
            headers = {"Content-Type": "application/cloudevents+json"}
            service.call("POST", "/events", content=json.dumps(event), headers=headers)
        (inbox / "d.csv").write_text("1,2\n")
        if REDIS is not None:
            with Redis.from_url(REDIS) as client:
                client.xadd(stream, {"of": "e"})
        until(lambda: expected <= set(outputs(service, "everything")))
        until(lambda: sum(one.startswith("tick ") for one in outputs(service, "everything")) > 1)
        service.call("POST", "/flows/everything/disable")
        assert signed(service, "standard", {"of": "late"}, "id-late").status_code == 404
        assert service.stop() == 0
        counted = Counter(run["trigger"]["id"] for run in stepbox("runs", "list", "--output", "json").json())
    ticks = counted.pop("tick")
    assert ticks > 1
    assert counted == dict.fromkeys((one.partition(" ")[0] for one in expected), 1)
    if REDIS is not None:
        with Redis.from_url(REDIS) as client:
            assert client.xpending(stream, "stepbox")["pending"] == 0
            client.delete(stream)


@pytest.mark.parametrize("answers", [1, 12])
def test_what_was_acknowledged_before_a_kill_runs_after_it(stepbox: Stepbox, answers: int) -> None:
    set_secrets(stepbox)
    taken: list[int] = []

    def send(number: int) -> None:
        try:
            answer = signed(service, "burst", {"n": number}, f"id-{number}")
        except httpx.TransportError:
            return
        assert answer.status_code == 202, answer.text
        taken.append(number)

    with serving(stepbox, STEPBOX_CONCURRENT_RUNS="2") as service:
        service.call("PUT", "/flows/burst", json={"text": BURST})
        with ThreadPoolExecutor(20) as senders:
            for number in range(20):
                senders.submit(send, number)
            until(lambda: len(taken) >= answers)
            service.process.send_signal(signal.SIGKILL)
        service.process.wait()
    acknowledged = set(taken)
    assert len(acknowledged) >= answers
    with serving(stepbox, token=service.token) as again:
        until(lambda: acknowledged <= {int(output) for output in outputs(again, "burst")})
        # Who had no answer sends again, and it is still the same event.
        repeated = [signed(again, "burst", {"n": number}, f"id-{number}") for number in range(20)]
        assert {answer.status_code for answer in repeated} == {202}
        until(lambda: len(outputs(again, "burst")) == 20)
        assert sorted(int(output) for output in outputs(again, "burst")) == list(range(20))
        assert again.stop() == 0
