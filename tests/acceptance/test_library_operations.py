"""Flows of the library that operate: against a real server, over files that are wrong, while others are at it."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flows.values import Json
from tests.acceptance.conftest import ROOT, Trial, at_once

LIBRARY = ROOT / "flows" / "library"
Answer = tuple[int, str, bytes]


@contextmanager
def serving(answer: Callable[[str, str, bytes], Answer]) -> Iterator[str]:
    """A server on loopback; ``answer`` makes status, type and body of a method, a path and a body. Gives host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, kind, body = answer(self.command, self.path, sent)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that the library has

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the library has
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def as_json(status: int, value: Json) -> Answer:
    return status, "application/json; charset=utf-8", json.dumps(value).encode()


def test_log_triage(trial: Callable[..., Trial]) -> None:
    here, broken = trial("log_triage"), trial("log_triage", "broken")
    (broken.directory / "data" / "app.log").write_text("Jun  3 00:00:01 host app: started\nall is well\n")
    ran, failed = at_once(lambda: here.run("-i", "slow_ms=2500"), broken.run)

    text = (LIBRARY / "log_triage" / "data" / "app.log").read_text(encoding="utf-8")
    lines = [line.split(maxsplit=3) for line in text.splitlines() if re.match(r"\d{4}-", line)]
    kinds: Counter[str] = Counter()
    for _, level, service, message in lines:
        if level == "ERROR":
            without = re.sub(r"\b[0-9a-f]{8,}\b", "ID", re.sub(r" req=\w+", "", message))
            kind = re.sub(r"\b\d+\b", "N", without)
            kinds[f"{service}: {kind}"] += 1
    known = ("SMTP N from relay-N, will try again", "Image ID not found in bucket")
    new = [kind for kind, _ in sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0])) if not kind.endswith(known)]
    slow = [int(found) for found in re.findall(r" (\d+)ms ", text) if int(found) > 2500]
    assert ran.status == 0, ran.stdout
    output = ran.json()["output"]
    assert len(output.pop("tasks_added")) == len(new) == 3
    assert output == {
        "document": "log-triage",
        "lines": len(lines),
        "levels": Counter(line[1] for line in lines),
        "new": new,
        "slow_requests": len(slow),
    }
    report = here.document("log-triage")
    for kind, count in kinds.items():
        service, _, message = kind.partition(": ")
        row = rf"^\| +{count} \| {service} +\| {re.escape(message)} +\| .*\| {'new  ' if kind in new else 'known'} \|$"
        assert re.search(row, report, re.MULTILINE), kind
    assert [int(ms) for ms in re.findall(r"^- (\d+) ms", report, re.MULTILINE)] == sorted(slow, reverse=True)

    # What was found once gets no second task.
    again = here.run()
    assert (again.status, again.json()["output"]["tasks_added"]) == (0, [])
    titles = here.look("return sorted(task['title'] for task in tools.search_tasks(label='log'))", "search_tasks")
    assert titles == sorted(new)

    assert failed.status == 1
    message = failed.json()["steps"]["errors"]["error"]["message"]
    assert message == "exit status 1: none of the 2 lines begins with a time and a level"


ORDER = {
    "id": 4711,
    "customer": "C-17",
    "lines": [{"sku": "TB-30", "quantity": 2}],
    "status": "paid",
    "total": {"amount": 178, "currency": "EUR"},
}
PRODUCT = {"sku": "TB-30", "name": "Trail backpack", "price": {"amount": 89.0, "currency": "EUR"}, "discontinued": None}
API: Mapping[str, Json] = {
    "GET /good/health": {"status": "ok"},
    "GET /good/products?limit=20": {"items": [PRODUCT], "total": 1},
    "GET /good/products/TB-30": PRODUCT,
    "GET /good/orders?status=open": [{**ORDER, "status": "open", "follows": {**ORDER, "id": 4710}}],
    "GET /good/orders/4711": ORDER,
    "GET /bad/health": {"status": "tired"},
    "GET /bad/products?limit=20": {"items": [PRODUCT, {**PRODUCT, "price": {"amount": "89", "currency": "EUR"}}]},
    "GET /bad/products/TB-30": PRODUCT,
    "GET /bad/orders?status=open": [],
}


def api(method: str, path: str, body: bytes) -> Answer:
    if path == "/good/orders/4711/invoice":
        return 200, "text/plain", b"Invoice 4711"
    if (method, path) == ("POST", "/bad/orders"):
        return as_json(201, {**json.loads(body), "id": 4712, "status": "open"})
    if path == "/bad/orders/4711":
        return as_json(404, {"error": "there is no order 4711"})
    if path == "/bad/orders/4711/invoice":
        return 500, "text/plain", b"no printer"
    found = API.get(f"{method} {path}")
    return as_json(404, {"error": "?"}) if found is None else as_json(200, found)


def test_api_smoke_test(trial: Callable[..., Trial]) -> None:
    here, bad, closed = (trial("api_smoke_test", label) for label in ("good", "bad", "closed"))
    with serving(api) as address:
        good, wrong, refused = at_once(
            lambda: here.run("-i", f"base_url=http://{address}/good", STEPBOX_INTERNAL=address),
            lambda: bad.run(
                *("-i", f"base_url=http://{address}/bad/", "-i", 'methods=["GET", "POST"]'), STEPBOX_INTERNAL=address
            ),
            lambda: closed.run("-i", f"base_url=http://{address}/good"),
        )
    assert good.status == 0, good.stdout
    assert good.json()["output"] == {"report": "api-smoke-test", "requests": 6, "passed": 6, "failed": 0, "skipped": 1}
    assert good.json()["steps"]["plan"]["result"]["skipped"] == [
        {"name": "GET /exports/{token}", "reason": "no example for token"}
    ]

    assert wrong.status == 1
    found = {one["name"]: one["problems"] for one in wrong.json()["steps"]["check"]["result"]}
    assert found == {
        "GET /health": ["the body.status is 'tired', not one of ok, degraded"],
        "GET /products": ["the body has no total", "the body.items[1].price.amount is '89', not of type number"],
        "GET /products/{sku}": [],
        "GET /orders": [],
        "POST /orders": ["the body has no total"],
        "GET /orders/{orderId}": ["answered 404: {'error': 'there is no order 4711'}"],
        "GET /orders/{orderId}/invoice": ["answered 500, which is not documented; there are 200"],
    }
    assert wrong.json()["error"]["message"] == (
        "step 'verdict' failed: 5 of 7 requests failed: GET /health: the body.status is 'tired', not one of ok, "
        "degraded, and 4 more"
    )
    assert "| GET /orders/{orderId}/invoice | 500 " in bad.document("api-smoke-test")

    # Loopback is no address that a flow reaches, unless the administrator opens it.
    assert refused.status == 1
    assert f"{address} isn't on the public Internet" in refused.json()["error"]["message"]

    # Without a server the requests are shown and not made.
    planned = closed.run()
    assert planned.status == 0, planned.stdout
    assert planned.json()["output"] == {
        "report": "api-smoke-test",
        "requests": 6,
        "passed": 0,
        "failed": 0,
        "skipped": 1,
    }
    assert planned.json()["steps"]["check"]["status"] == "skipped"
    assert "would ask for /orders?status=open" in closed.document("api-smoke-test")


def test_data_quality(trial: Callable[..., Trial]) -> None:
    here, broken = trial("data_quality"), trial("data_quality", "broken")
    incoming = broken.directory / "data" / "incoming"
    (incoming / "customers.csv").unlink()
    (incoming / "more.csv").write_text("a,b\n1,2\n")
    for file, row in (
        ("orders.csv", "O7001,C999,2025-13-01,64000,USD,\n"),
        ("payments.csv", "P9001,O1,x,y,z,1,2\n"),
    ):
        with (incoming / file).open("a") as text:
            text.write(row)
    ran, failed = at_once(here.run, broken.run)

    sizes = {
        path.name: len(path.read_text(encoding="utf-8").splitlines()) - 1
        for path in (LIBRARY / "data_quality" / "data" / "incoming").glob("*.csv")
    }
    assert ran.status == 0, ran.stdout
    assert ran.json()["output"] == {
        "document": "data-quality",
        "files": 3,
        "rows": sum(sizes.values()),
        "notes": [f"customers.csv, email: empty in 1 of {sizes['customers.csv']} rows, as the rules allow"],
    }
    assert {check["file"]: check["rows"] for check in ran.json()["steps"]["check"]["result"]} == sizes

    last = sizes["orders.csv"] + 2
    problems = [
        "customers.csv: the file is missing",
        "more.csv: there are no rules for it",
        f"orders.csv, order_id: 2 not unique (row 2: O7001, row {last}: O7001)",
        f"orders.csv, ordered: 1 not a date (row {last}: 2025-13-01)",
        f"orders.csv, total: 1 more than 5000 (row {last}: 64000.0)",
        f"orders.csv, currency: 1 not one of EUR (row {last}: USD)",
        f"orders.csv, status: empty in 1 of {sizes['orders.csv'] + 1} rows (row {last})",
        f"payments.csv, row {sizes['payments.csv'] + 2}: 7 cells under 5 columns (quote cells that contain a comma)",
    ]
    assert failed.status == 1
    assert failed.json()["steps"]["report"]["result"]["problems"] == problems
    assert failed.json()["error"]["message"] == f"step 'verdict' failed: {problems[0]}, and 7 more problems"
    assert "**more.csv: there are no rules for it**" in broken.document("data-quality")


def test_fetch_with_retries(trial: Callable[..., Trial]) -> None:
    here, rehearsal = trial("fetch_with_retries"), trial("fetch_with_retries", "rehearsal")
    rates = {"base": "EUR", "rates": {"USD": 1.1512}}
    answers = [503, 429, 200]

    def service(_method: str, path: str, _body: bytes) -> Answer:
        if path != "/rates":
            return as_json(404, {"error": "?"})
        status = answers.pop(0)
        return as_json(status, rates if status == 200 else {"error": "busy"})

    with serving(service) as address:
        url = f"url=http://{address}/rates"
        fetched, rehearsed = at_once(lambda: here.run("-i", url, STEPBOX_INTERNAL=address), rehearsal.run)
        absent = trial("fetch_with_retries", "absent", of=here)
        gone = absent.run("-i", f"{url}/of-old", STEPBOX_INTERNAL=address)
    assert fetched.status == 0, fetched.stdout
    output = fetched.json()["output"]
    assert (output["fresh"], output["body"], output["from"]) == (True, rates, f"http://{address}/rates")
    assert fetched.json()["steps"]["fetch"]["attempts"] == 3
    assert answers == []

    data = json.loads((LIBRARY / "fetch_with_retries" / "data" / "rates.json").read_text(encoding="utf-8"))
    assert rehearsed.status == 0, rehearsed.stdout
    assert (rehearsed.json()["output"]["fresh"], rehearsed.json()["output"]["body"]) == (True, data)
    assert rehearsed.json()["steps"]["rehearse"]["attempts"] > 1

    # An answer that stays what it is gets no second attempt, and is no reason to go on with an older one.
    assert gone.status == 1
    assert gone.json()["steps"]["fetch"]["attempts"] == 1
    assert gone.json()["error"]["message"].endswith("/of-old answered 404, which no further attempt would change")

    # Now the server is gone: with an earlier answer the run goes on with that, without it fails.
    down, never = at_once(
        lambda: here.run("-i", url, STEPBOX_INTERNAL=address),
        lambda: rehearsal.run("-i", url, "-i", "keep=another", STEPBOX_INTERNAL=address),
    )
    assert down.status == 0, down.stdout
    assert down.json()["output"] == {**output, "fresh": False}
    assert down.json()["steps"]["fetch"]["attempts"] == 4
    assert never.status == 1
    assert "the service stayed down, and there is no earlier answer" in never.json()["error"]["message"]


STATE = """
return {
    "files": [file["id"] for file in tools.list_files()],
    "docs": [doc["id"] for doc in tools.list_docs()],
    "tasks": [(task["title"], task["description"]) for task in tools.search_tasks()],
    "price": tools.open_resource(sourceKind="file", sourceId="price-list")["rows"][0]["price"],
}
"""
LOCK = "tools.create_doc(docId='price-list-lock', content='run of somebody')"


def test_staged_import(trial: Callable[..., Trial]) -> None:
    here = trial("staged_import")
    first = here.run()
    assert first.status == 0, first.stdout
    assert first.json()["output"] == {"articles": 30, "added": 30, "removed": 0, "changed": 0}

    broken, locked, changed = (trial("staged_import", label, of=here) for label in ("broken", "locked", "changed"))
    broken.edit("data/price-list.csv", "Hex bolt M6,100,4.59", "Hex bolt M6,100,free")
    changed.edit("data/price-list.csv", "Hex bolt M4,50,11.13", "Hex bolt M4,50,12.50")
    locked.look(LOCK, "create_doc")
    failed, waiting, second = at_once(broken.run, locked.run, changed.run)
    tools = ("list_files", "list_docs", "search_tasks", "open_resource")
    after_failure, after_lock, after_change = at_once(
        *(lambda one=one: one.look(STATE, *tools) for one in (broken, locked, changed))
    )

    # A bad list changes nothing, becomes a task, and leaves neither its copy nor its lock behind.
    cause = "step 'check' failed: price-list.csv can't be published: line 3: 'free' is no price"
    assert (failed.status, failed.json()["error"]["message"]) == (1, cause)
    run = failed.json()["run_id"]
    assert after_failure == {
        "files": ["price-list"],
        "docs": [],
        "tasks": [["The import of price-list failed", f"{cause}; run {run}, the list before is still in use"]],
        "price": 11.13,
    }

    # The lock of another run stays where it is.
    assert waiting.status == 1
    assert "another import is on: run of somebody" in waiting.json()["error"]["message"]
    assert {step: one["status"] for step, one in waiting.json()["steps"].items()} == {
        **dict.fromkeys(("stage", "check", "publish", "drop_staging", "unlock"), "skipped"),
        "lock": "failed",
        "report_failure": "succeeded",
    }
    assert (after_lock["files"], after_lock["docs"]) == (["price-list"], ["price-list-lock"])

    assert second.json()["output"] == {"articles": 30, "added": 0, "removed": 0, "changed": 1}
    assert after_change == {"files": ["price-list"], "docs": [], "tasks": [], "price": 12.5}
    halve_prices(changed.directory / "data" / "price-list.csv")
    too_much = changed.run()
    assert too_much.status == 1
    assert "100% of the published prices would change or go, more than 50%" in too_much.json()["error"]["message"]


def halve_prices(path: Path) -> None:
    """What a wrong column or currency looks like."""
    head, *lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    halved = [",".join([*row[:3], f"{float(row[3]) / 2:.2f}", *row[4:]]) for row in cells]
    path.write_text("\n".join([head, *halved]) + "\n")
