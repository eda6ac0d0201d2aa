"""Flows of the library that report: what they write is computed here a second time, from the same data."""

import csv
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from tests.acceptance.conftest import ROOT, Trial, at_once

LIBRARY = ROOT / "flows" / "library"


def rows(name: str, file: str) -> list[dict[str, str]]:
    return rows_of(LIBRARY / name / "data" / file)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def table(markdown: str) -> list[list[str]]:
    """The cells of the Markdown tables in a text, without their rulers."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and not line.startswith("| -")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_sales_report(trial: Callable[..., Trial]) -> None:
    here, broken = trial("sales_report"), trial("sales_report", "broken")
    broken.edit(
        "data/sales.csv", "O-4101,2025-01-06,West,web,Gas stove,1,", "O-4101,2025-01-06,West,web,Gas stove,one,"
    )
    ran, failed = at_once(lambda: here.run("-i", "month=2025-05", "-i", "top=2"), broken.run)

    revenue: dict[str, Decimal] = defaultdict(Decimal)
    regions: dict[str, Decimal] = defaultdict(Decimal)
    products: dict[str, Decimal] = defaultdict(Decimal)
    orders = set()
    for row in rows("sales_report", "sales.csv"):
        value = int(row["units"]) * Decimal(row["unit_price"]) * (1 - Decimal(row["discount"]))
        revenue[row["date"][:7]] += value
        if row["date"].startswith("2025-05"):
            regions[row["region"]] += value
            products[row["product"]] += value
            orders.add(row["order_id"])
    ranked = sorted(regions, key=lambda region: -regions[region])
    assert ran.status == 0, ran.stdout
    assert ran.json()["output"] == {
        "document": "sales-report",
        "month": "2025-05",
        "revenue": float(round(revenue["2025-05"], 2)),
        "change_percent": float(round(100 * (revenue["2025-05"] / revenue["2025-04"] - 1), 1)),
        "orders": len(orders),
        "average_order": float(round(revenue["2025-05"] / len(orders), 2)),
        "best_region": ranked[0],
    }
    report = here.document("sales-report")
    assert report.startswith(f"# Sales in May 2025\n\n{len(orders)} orders of ")
    cells = table(report)
    assert cells[0] == ["region", "May", "April", "change"]
    assert [(row[0], row[1]) for row in cells[1:5]] == [(region, f"{regions[region]:,.2f}") for region in ranked]
    assert cells[5][:3] == ["**all**", f"{revenue['2025-05']:,.2f}", f"{revenue['2025-04']:,.2f}"]
    best = sorted(products, key=lambda product: -products[product])[:2]
    assert [(row[0], row[2]) for row in cells[7:]] == [(product, f"{products[product]:,.2f}") for product in best]

    assert failed.status == 1
    message = failed.json()["steps"]["analyse"]["error"]["message"]
    assert message == "sales.csv can't be used: row 2: units is 'one'"


def test_deployment_frequency(trial: Callable[..., Trial]) -> None:
    here, nowhere = trial("deployment_frequency"), trial("deployment_frequency", "nowhere")
    ran, failed = at_once(here.run, lambda: nowhere.run("-i", "environment=prod"))

    text = (LIBRARY / "deployment_frequency" / "data" / "deployments.jsonl").read_text(encoding="utf-8")
    found = [one for one in map(json.loads, text.splitlines()) if one["environment"] == "production"]
    day = {one["id"]: datetime.fromisoformat(one["deployed_at"]).date() for one in found}
    last = max(day.values())
    first = last - timedelta(days=last.weekday(), weeks=7)
    weeks = [first + timedelta(weeks=number) for number in range(8)]
    found = [one for one in found if day[one["id"]] >= first]
    succeeded = [one for one in found if one["outcome"] == "succeeded"]
    names = sorted({one["service"] for one in found})

    def of(service: str, week: date) -> list[date]:
        return [
            day[one["id"]]
            for one in succeeded
            if one["service"] == service and week <= day[one["id"]] < week + timedelta(weeks=1)
        ]

    days_a_week = {name: median(len(set(of(name, week))) for week in weeks) for name in names}
    assert ran.status == 0, ran.stdout
    assert ran.json()["output"] == {
        "report": "reports/deployment-frequency.md",
        "weeks": "reports/deployment-frequency-weeks.csv",
        "deployments": len(found),
        "rhythm": {
            name: "daily" if days >= 3 else "weekly" if days >= 1 else "less" for name, days in days_a_week.items()
        },
    }
    assert list(csv.reader(here.shared("reports/deployment-frequency-weeks.csv").splitlines())) == [
        ["week", *names],
        *([str(week), *(str(len(of(name, week))) for name in names)] for week in weeks),
    ]
    services = ran.json()["steps"]["measure"]["result"]["services"]
    for name in names:
        mine = [one for one in found if one["service"] == name]
        lead = median(
            (datetime.fromisoformat(one["deployed_at"]) - datetime.fromisoformat(one["committed_at"])).total_seconds()
            for one in mine
        )
        assert services[name]["lead_time_hours"] == round(lead / 3600, 1)
        failures = sum(one["outcome"] == "failed" for one in mine)
        assert services[name]["failure_percent"] == round(100 * failures / len(mine), 1)
    report = table(here.shared("reports/deployment-frequency.md"))
    assert [row[0] for row in report] == ["service", *names]

    assert failed.status == 1
    message = failed.json()["steps"]["measure"]["error"]["message"]
    assert message == "deployments.jsonl has no deployments to prod; it has production, staging"


def test_scan_summary(trial: Callable[..., Trial]) -> None:
    here, broken = trial("scan_summary"), trial("scan_summary", "broken")
    (broken.directory / "data" / "scan.sarif").write_text('{"results": []}\n')
    severe, no_sarif = at_once(lambda: here.run("-i", "fail_on=high"), broken.run)

    expected = [
        ("high", "py/weak-hash", "shop/accounts.py", 27),
        ("high", "py/sql-injection", "shop/search.py", 41),
        ("medium", "IMG-2025-0117", "Dockerfile", 1),
        ("medium", "py/debug-mode", "settings/production.py", 9),
        ("medium", "py/debug-mode", "settings/staging.py", 9),
        ("low", "IMG-2025-0093", "Dockerfile", 1),
        ("low", "CFG-ROOT", "Dockerfile", 14),
        ("info", "py/unused-import", "jobs/nightly.py", 1),
        ("info", "py/unused-import", "shop/orders.py", 3),
        ("info", "py/unused-import", "shop/search.py", 2),
    ]
    findings = json.loads(here.shared("reports/scan.json"))
    assert [(one["severity"], one["rule"], one["file"], one["line"]) for one in findings] == expected
    counts = {**dict.fromkeys(("critical", "high", "medium", "low", "info"), 0), **Counter(row[0] for row in expected)}
    assert severe.json()["steps"]["transform"]["result"]["counts"] == counts
    report = here.shared("reports/scan.md")
    assert report.startswith("## Scan: 2 high, 3 medium, 2 low, 3 info\n")
    assert [row[:2] for row in table(report)[1:]] == [[rank, f"{file}:{line}"] for rank, _, file, line in expected]
    assert severe.status == 1
    assert severe.json()["error"]["message"] == "step 'verdict' failed: 2 high findings"

    assert no_sarif.status == 1
    message = no_sarif.json()["steps"]["transform"]["error"]["message"]
    assert message == "scan.sarif is no SARIF file: it has no runs"

    fine = here.run()
    assert fine.status == 0
    assert fine.json()["output"] == {"report": "reports/scan.md", "findings": "reports/scan.json", "counts": counts}


def test_statement_run(trial: Callable[..., Trial]) -> None:
    here, broken = trial("statement_run"), trial("statement_run", "broken")
    broken.edit("data/invoices.csv", "2025-07-24,1627.77,1627.77", "2025-07-24,1627.77,1628.19")
    ran, failed = at_once(lambda: here.run("-i", "as_of=2025-06-30", "-i", "minimum=500"), broken.run)

    open_: dict[str, Decimal] = defaultdict(Decimal)
    overdue: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows("statement_run", "invoices.csv"):
        rest = Decimal(row["amount"]) - Decimal(row["paid"])
        open_[row["customer_id"]] += rest
        if date.fromisoformat(row["due"]) < date(2025, 6, 30):
            overdue[row["customer_id"]] += rest
    owing = sorted((one for one in open_ if open_[one] >= 500), key=lambda one: -overdue[one])
    assert 1 < len(owing) < len(open_)
    assert ran.status == 0, ran.stdout
    output = ran.json()["output"]
    assert output == {
        "overview": "statements",
        "statements": [f"statement-{one}" for one in owing],
        "open": float(sum(open_[one] for one in owing)),
        "overdue": float(sum(overdue[one] for one in owing)),
        "failed": [],
    }
    assert len(here.call(*RUNS, "--status", "succeeded").json()) == len(owing)
    statement = table(here.document(output["statements"][0]))
    invoices = [row for row in rows("statement_run", "invoices.csv") if row["customer_id"] == owing[0]]
    unpaid = sorted((row["due"], row["invoice_id"]) for row in invoices if row["amount"] != row["paid"])
    assert [(row[1], row[0]) for row in statement[1:-1]] == unpaid
    assert statement[-1][-1] == f"**{open_[owing[0]]:,.2f}**"

    # One statement can't be written; the others are, and the run says whose is missing.
    assert failed.status == 1
    overview: Any = failed.json()["steps"]["overview"]["result"]
    assert overview["failed"] == ["Saltmarsh Foods"]
    assert len(overview["statements"]) == len(open_) - 1
    assert "no statement for Saltmarsh Foods" in failed.json()["error"]["message"]
    causes = [run["error"]["message"] for run in broken.call(*RUNS, "--status", "failed").json()]
    assert causes == ["step 'age' failed: INV-2348 is overpaid by 0.42; settle that first"]


RUNS = ("runs", "list", "--flow", "customer_statement", "--output", "json")


def test_clean_contacts(trial: Callable[..., Trial]) -> None:
    here, broken, strict = trial("clean_contacts"), trial("clean_contacts", "broken"), trial("clean_contacts", "strict")
    broken.edit("data/contacts.csv", "name,email,phone", "name,mail,phone")
    ran, failed, refused = at_once(here.run, broken.run, lambda: strict.run("-i", "keep=0.9"))

    lines = rows("clean_contacts", "contacts.csv")
    assert ran.status == 0, ran.stdout
    output = ran.json()["output"]
    assert output["counts"] == {**output["counts"], "rows": len(lines), "usable": len(lines) - 3, "rejected": 3}
    assert output["files"] == [
        f"contacts/{name}" for name in ("SHA256SUMS", "contacts.csv", "rejected.csv", "report.html")
    ]
    assert output["archive"]["path"] == "contacts.tar.gz"

    assert here.call("runs", "download", ran.json()["run_id"], "--to", "out").status == 0
    out = here.directory / "out"
    cleaned = rows_of(out / "clean" / "contacts.csv")
    by_email = {row["email"]: row for row in cleaned}
    assert len(by_email) == len(lines) - 3
    assert by_email["martin.keller@nordwind.example"] == {
        "name": "Martin Keller",
        "email": "martin.keller@nordwind.example",
        "phone": "+49305550102",
        "country": "DE",
        "since": "2021-03-14",
    }
    assert by_email["clara.winter@seeufer.example"]["phone"] == "+41445550109"
    assert by_email["luca.meier@seeufer.example"]["since"] == "2022-09-03"
    assert by_email["lena.hofer@alpenblick.example"]["name"] == "Lena Hofer"
    rejected = rows_of(out / "clean" / "rejected.csv")
    assert [(row["line"], row["reason"]) for row in rejected] == [
        ("7", "no valid e-mail address"),
        ("13", "no name"),
        ("15", "the same contact as in line 14"),
    ]
    assert len(rows_of(out / "clean" / "changes.csv")) == output["counts"]["changes"]
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert f"{len(lines) - 3} of {len(lines)} rows are usable" in page
    assert "&lt;sophie.brandt@nordwind.example&gt;" in page
    with tarfile.open(out / "pack" / "contacts.tar.gz") as archive:
        packed = {name: archive.extractfile(name) for name in output["files"]}
        contents = {name.removeprefix("contacts/"): file.read() for name, file in packed.items() if file is not None}
    sums = {name: digest for digest, name in map(str.split, contents.pop("SHA256SUMS").decode().splitlines())}
    assert sums == {name: sha256(content).hexdigest() for name, content in contents.items()}
    assert contents["contacts.csv"] == (out / "clean" / "contacts.csv").read_bytes()

    assert failed.json()["steps"]["clean"]["error"]["message"] == "the contacts have no column email"
    message = refused.json()["steps"]["clean"]["error"]["message"]
    assert message == f"only {len(lines) - 3} of {len(lines)} contacts are usable: is this the right file?"
