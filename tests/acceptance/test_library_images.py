"""Flows of the library with steps of ``image``, on images that are made here: no registry can be reached."""

import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import docker
import pytest

from scripts.docker_engine import BASE
from tests.acceptance.conftest import ROOT, Outcome, Trial
from tests.sandbox.runners import docker_endpoint

LIBRARY = ROOT / "flows" / "library"
TRIVY, ORDERS, PYTHON = "aquasec/trivy:0.58.1", "orders:1", "python:3.12-slim-bookworm"

# What Trivy 0.58 says of these versions, shortened: its form is Trivy's, empty lists left out as Trivy does.
FINDINGS = {
    "lodash@4.17.15": ("CVE-2020-8203", "HIGH", "4.17.19", "nodejs-lodash: prototype pollution in zipObjectDeep"),
    "minimist@0.0.8": ("CVE-2021-44906", "CRITICAL", "1.2.6, 0.2.4", "minimist: prototype pollution"),
    "qs@6.5.2": ("CVE-2022-24999", "MEDIUM", None, "express: qs prototype poisoning causes the hang | of the node"),
}
FAKE_TRIVY = f"""#!/usr/bin/python3
import argparse, json, os
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["fs"])
parser.add_argument("--quiet", action="store_true")
for option in ("scanners", "format", "cache-dir", "db-repository", "output"):
    parser.add_argument(f"--{{option}}", required=True)
parser.add_argument("target")
given = parser.parse_args()
assert (given.scanners, given.format) == ("vuln", "json"), given
assert os.environ["HTTPS_PROXY"], "no network"
Path(given.cache_dir).mkdir()
known = {FINDINGS!r}
results = []
for path in sorted(Path(given.target).rglob("package-lock.json")):
    packages = json.loads(path.read_text())["packages"]
    names = [f"{{name.removeprefix('node_modules/')}}@{{one['version']}}" for name, one in packages.items() if name]
    result = {{"Target": str(path.relative_to(given.target)), "Class": "lang-pkgs", "Type": "npm"}}
    found = []
    for name in names:
        if name in known:
            number, severity, fix, title = known[name]
            package, _, version = name.rpartition("@")
            found.append({{
                "VulnerabilityID": number, "PkgID": name, "PkgName": package,
                "PkgIdentifier": {{"PURL": f"pkg:npm/{{name}}", "UID": "2d1b1d1e8ad3d4a5"}},
                "InstalledVersion": version, **({{"FixedVersion": fix, "Status": "fixed"}} if fix else {{"Status": "affected"}}),
                "Layer": {{}}, "SeveritySource": "ghsa", "PrimaryURL": f"https://avd.aquasec.com/nvd/{{number.lower()}}",
                "Title": title, "Description": title, "Severity": severity, "CweIDs": ["CWE-1321"],
            }})
    if found:
        result["Vulnerabilities"] = found
    results.append(result)
report = {{"SchemaVersion": 2, "ArtifactName": given.target, "ArtifactType": "filesystem"}}
if results:
    report["Results"] = results
Path(given.output).write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient(docker_endpoint().url, timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="module")
def images(engine: docker.APIClient) -> Iterator[None]:
    """The images that the flows name, from the base that the Engine has."""
    build(engine, TRIVY, 'COPY trivy /usr/bin/trivy\nENTRYPOINT ["trivy"]', {"trivy": FAKE_TRIVY.encode()})
    project = {f"app/{path.name}": path.read_bytes() for path in (LIBRARY / "project_tests/data/orders").iterdir()}
    build(engine, ORDERS, "COPY app /app\nCOPY packages /usr/lib/python3/dist-packages", {**project, **pytest_itself()})
    name, _, tag = PYTHON.partition(":")
    assert engine.tag(BASE, name, tag)
    yield
    for image in (TRIVY, ORDERS, PYTHON):
        engine.remove_image(image, force=True)


def pytest_itself() -> Mapping[str, bytes]:
    """The packages of pytest, as they lie in this environment."""
    found = {}
    for name in ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        packages = origin.parent.parent if spec.submodule_search_locations else origin.parent
        for path in origin.parent.rglob("*.py") if spec.submodule_search_locations else (origin,):
            found[f"packages/{path.relative_to(packages)}"] = path.read_bytes()
    return found


def build(client: docker.APIClient, tag: str, lines: str, files: Mapping[str, bytes], *, base: str = BASE) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, data in {"Dockerfile": f"FROM {base}\n{lines}\n".encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    context.seek(0)
    told = list(client.build(fileobj=context, custom_context=True, tag=tag, network_mode="none", rm=True, decode=True))
    assert not [item for item in told if "error" in item], told


Run = Callable[..., Outcome]


@pytest.fixture
def run(images: None) -> Run:
    def run(trial: Trial, *arguments: str) -> Outcome:
        engine = {"DOCKER_HOST": os.environ["STEPBOX_TEST_DOCKER_HOST"], "STEPBOX_RUNNER": "docker"}
        return trial.run(*arguments, **engine)

    return run


def test_vulnerability_scan_ranks_and_stops(trial: Callable[..., Trial], run: Run) -> None:
    here = trial("vulnerability_scan")
    stopped = run(here)
    assert stopped.status == 1, stopped.stdout
    document: Any = stopped.json()
    assert document["steps"]["verdict"]["error"]["message"] == "1 critical vulnerabilities have a fix"
    assert document["steps"]["scan"]["isolation"] == "container"
    here.edit(
        "data/package-lock.json",
        '"node_modules/semver"',
        '"node_modules/qs": {"version": "6.5.2"},\n    "node_modules/semver"',
    )
    ran = run(here, "-i", "fail_on=none")
    assert ran.status == 0, ran.stdout
    output: Any = ran.json()["output"]
    assert (output["files"], output["report"]) == (1, "reports/vulnerabilities.md")
    assert {rank: number for rank, number in output["found"].items() if number} == {
        "critical": 1,
        "high": 1,
        "medium": 1,
    }
    assert {rank: number for rank, number in output["fixable"].items() if number} == {"critical": 1, "high": 1}
    rows = here.shared("reports/vulnerabilities.md").splitlines()[4:]
    assert [row.split(" | ")[1] for row in rows if row] == ["minimist", "lodash", "qs"]
    assert r"hang \| of the node" in rows[2]
    assert "| – |" in rows[2]
    assert all("data/package-lock.json" in row for row in rows[:3])


def test_vulnerability_scan_of_what_is_sound_says_so(trial: Callable[..., Trial], run: Run) -> None:
    here = trial("vulnerability_scan")
    lock = here.directory / "data" / "package-lock.json"
    lock.write_text(json.dumps({"packages": {"": {}, "node_modules/semver": {"version": "7.6.3"}}}))
    ran = run(here, "-i", "fail_on=low")
    assert ran.status == 0, ran.stdout
    assert "None is known." in here.shared("reports/vulnerabilities.md")
    lock.unlink()
    failed: Any = run(here).json()
    assert "no lock file is there to scan" in failed["steps"]["repository"]["error"]["message"]


def test_project_tests_lists_what_failed(trial: Callable[..., Trial], run: Run, engine: docker.APIClient) -> None:
    here = trial("project_tests")
    ran = run(here)
    assert ran.status == 0, ran.stdout
    assert ran.json()["output"] == {"report": "reports/tests.md", "tests": 6, "passed": 5, "skipped": 1}
    assert here.shared("reports/tests.md").startswith("# Tests\n\n6 of 6 without a failure.\n")
    wrong = (LIBRARY / "project_tests/data/orders/orders.py").read_text().replace('== "SPRING"', '!= "SPRING"')
    build(engine, "orders:broken", "COPY orders.py /app/orders.py", {"orders.py": wrong.encode()}, base=ORDERS)
    here.edit("project_tests.yaml", "image: orders:1", "image: orders:broken")
    failed: Any = run(here).json()
    engine.remove_image("orders:broken", force=True)
    message = failed["steps"]["verdict"]["error"]["message"]
    assert message.startswith("3 of 6 tests failed: test_orders.test_discount_needs_its_code[SPRING-90.0]")
    assert "assert 100.0 == 90.0" in here.shared("reports/tests.md")
    assert failed["status"] == "failed"


def test_database_migration_keeps_only_what_holds(trial: Callable[..., Trial], run: Run) -> None:
    here, broken, dangling = (trial("database_migration", name) for name in ("copy", "broken", "dangling"))
    ran = run(here)
    assert ran.status == 0, ran.stdout
    output: Any = ran.json()["output"]
    names = sorted(path.name for path in (LIBRARY / "database_migration/data/migrations").iterdir())
    assert [each.split("-")[-1] for each in output["applied"]] == names[1:]
    assert output["version"] == len(names)
    with sqlite3.connect(":memory:") as database:
        database.executescript(here.shared("database/shop.sql"))
        assert database.execute("SELECT id, cents, currency FROM invoice").fetchall() == [
            *((100, 129900, "EUR"), (101, 4550, "EUR"))
        ]
        assert database.execute("PRAGMA user_version").fetchone() == (len(names),)
    database.close()
    again: Any = run(here, "-i", "database=.stepbox/shared/database/shop.sql").json()
    assert (again["output"]["applied"], again["steps"]["write"]["status"]) == ([], "skipped")

    (broken.directory / "data/migrations/003_payments.sql").write_text(
        "CREATE TABLE payment (id);\nALTER TABLE absent ADD x;\n"
    )
    failed: Any = run(broken).json()
    assert failed["steps"]["migrate"]["error"]["message"].endswith("003_payments.sql: no such table: absent")
    (dangling.directory / "data/migrations/003_payments.sql").write_text(
        "INSERT INTO invoice VALUES (7, 99, 1, 'EUR');\n"
    )
    failed = run(dangling).json()
    message = failed["steps"]["migrate"]["error"]["message"]
    assert message.endswith("1 rows name others that aren't there, the first in table invoice")
    for trial_ in (broken, dangling):
        assert not (trial_.directory / ".stepbox/shared/database/shop.sql").exists()


def test_image_build_waits_for_a_yes_and_runs_what_it_built(
    trial: Callable[..., Trial], run: Run, engine: docker.APIClient
) -> None:
    here = trial("image_build")
    waiting = run(here)
    assert waiting.status == 4, waiting.stdout
    variables = {"DOCKER_HOST": os.environ["STEPBOX_TEST_DOCKER_HOST"], "STEPBOX_RUNNER": "docker"}
    (asked,) = here.call("approvals", "list", "--output", "json", **variables).json()
    folder = LIBRARY / "image_build/data/iban"
    assert asked["details"] == {
        "tool": "image.build",
        "arguments": {
            "tag": "iban-check:1",
            "dockerfile": (folder / "Dockerfile").read_text(),
            "files": {name: (folder / name).read_text() for name in ("iban.py", "test_iban.py")},
        },
    }
    assert not engine.images("iban-check:1")
    ended: Any = here.call("approve", asked["run_id"], "--resume", "--output", "json", **variables).json()
    try:
        assert ended["status"] == "succeeded", ended
        assert ended["output"]["id"] == engine.inspect_image("iban-check:1")["Id"]  # type: ignore[no-untyped-call]
        assert [line.split(maxsplit=1)[1] for line in ended["output"]["said"].splitlines()] == [
            *("is valid", "is valid", "is not valid")
        ]
    finally:
        engine.remove_image("iban-check:1", force=True)


def test_image_build_from_code_is_asked_for_and_not_made_after_a_no(
    trial: Callable[..., Trial], run: Run, engine: docker.APIClient
) -> None:
    here = trial("image_build")
    (here.directory / "image_build.yaml").write_text(
        f"""flow: image_build
steps:
  - id: build
    tools: [image.build]
    python: |
      try:
          return tools.build(tag="iban-check:2", dockerfile="FROM {PYTHON}\\nRUN echo $((6 * 7))\\n")["log"]
      except Exception as error:
          return str(error)
output: ${{{{ steps.build.result }}}}
"""
    )
    variables = {"DOCKER_HOST": os.environ["STEPBOX_TEST_DOCKER_HOST"], "STEPBOX_RUNNER": "docker"}
    for command in ("reject", "approve"):
        waiting: Any = run(here).json()
        assert waiting["status"] == "waiting", waiting
        ended: Any = here.call(command, waiting["run_id"], "--resume", "--output", "json", **variables).json()
        assert ended["status"] == "succeeded", ended
        assert bool(engine.images("iban-check:2")) == (command == "approve")
        assert ("said no" if command == "reject" else "\n42\n") in ended["output"]
    engine.remove_image("iban-check:2", force=True)
