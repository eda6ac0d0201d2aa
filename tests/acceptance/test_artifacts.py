"""``runs artifacts``, ``runs download`` and ``exec --artifacts``, and what ``run`` and ``runs show`` say of artifacts."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tests.acceptance.conftest import Stepbox

FLOW = """
flow: make
steps:
  - id: table
    python: |
      import os, pathlib
      os.mkdir("artifacts/deep")
      pathlib.Path("artifacts/table.csv").write_text("a,b\\n1,2\\n")
      pathlib.Path("artifacts/deep/page.html").write_text("<p>1</p>")
      os.symlink("/etc/passwd", "artifacts/passwd")
  - id: each
    for_each: {in: [7, 8]}
    shell: echo $INPUT_N > artifacts/n.txt
    with: {n: "${{ item }}"}
  - {id: take, shell: cat table/table.csv, files: [table/table.csv]}
output: ${{ steps.table.artifacts.map(a, a.path) }}
"""
NAMES = ["each/0/n.txt", "each/1/n.txt", "table/deep/page.html", "table/table.csv"]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_artifacts_are_listed_and_downloaded(stepbox: Stepbox) -> None:
    ran = stepbox("run", stepbox.flow("make", FLOW))
    assert ran.status == 0, ran.stderr
    assert json.loads(ran.stdout) == ["deep/page.html", "table.csv"]
    assert "artifacts stepbox runs download " in ran.stderr
    assert "    table/table.csv 8 B\n" in ran.stderr
    assert "artifacts/passwd is left out of the artifacts: it is a symbolic link" in ran.stderr
    run = stepbox("runs", "list", "--output", "json").json()[0]["run_id"]

    listed = stepbox("runs", "artifacts", run, "--output", "json").json()
    assert [one["name"] for one in listed] == NAMES
    assert listed[3] == {
        **listed[3],
        "step": "table",
        "item": None,
        "attempt": 1,
        "path": "table.csv",
        "size": 8,
        "sha256": sha256(b"a,b\n1,2\n").hexdigest(),
        "media_type": "text/csv",
        "superseded": False,
    }
    shown = stepbox("runs", "artifacts", run).stdout.splitlines()
    assert shown[0].split() == ["ARTIFACT", "SIZE", "TYPE", "SHA-256"]
    assert [line.split()[0] for line in shown[1:]] == NAMES
    assert "table/table.csv 8 B" in stepbox("runs", "show", run).stdout

    whole = stepbox("runs", "download", run, "--to", "out")
    assert (whole.status, whole.stdout.splitlines()) == (0, [f"out/{name}" for name in NAMES])
    assert files(stepbox.directory / "out") == {
        "each/0/n.txt": b"7\n",
        "each/1/n.txt": b"8\n",
        "table/deep/page.html": b"<p>1</p>",
        "table/table.csv": b"a,b\n1,2\n",
    }
    one = stepbox("runs", "download", run, "table/table.csv", "each", "--to", "some", "--output", "json")
    assert sorted(one.json()) == ["some/each/0/n.txt", "some/each/1/n.txt", "some/table/table.csv"]


def test_a_download_replaces_nothing_unasked_and_names_what_there_is(stepbox: Stepbox) -> None:
    run = stepbox("run", stepbox.flow("make", FLOW), "--output", "json").json()["run_id"]
    out = stepbox.directory / "out"
    out.mkdir()
    (out / "table").symlink_to("/var/tmp")
    blocked = stepbox("runs", "download", run, "table", "--to", "out", "--overwrite", "--output", "json")
    assert (blocked.status, blocked.json()["error"]["code"]) == (2, "download_blocked")
    (out / "table").unlink()
    (out / "table").mkdir()
    (out / "table" / "table.csv").write_text("mine")
    blocked = stepbox("runs", "download", run, "--to", "out")
    assert blocked.status == 2
    assert "out/table/table.csv" in blocked.stderr
    assert "--overwrite" in blocked.stderr
    assert files(out) == {"table/table.csv": b"mine"}
    assert stepbox("runs", "download", run, "--to", "out", "--overwrite").status == 0
    assert files(out)["table/table.csv"] == b"a,b\n1,2\n"
    unknown = stepbox("runs", "download", run, "table/tabel.csv", "--output", "json")
    assert (unknown.status, unknown.json()["error"]["code"]) == (2, "unknown_artifact")
    assert "table/table.csv" in unknown.json()["error"]["message"]


def test_a_damaged_artifact_is_not_handed_out(stepbox: Stepbox) -> None:
    run = stepbox("run", stepbox.flow("make", FLOW), "--output", "json").json()["run_id"]
    digest = sha256(b"a,b\n1,2\n").hexdigest()
    (stepbox.directory / ".stepbox" / "artifacts" / digest[:2] / digest).write_text("a,b\n9,9\n")
    failed = stepbox("runs", "download", run, "--to", "out", "--output", "json")
    assert (failed.status, failed.json()["error"]["code"]) == (1, "artifact_damaged")
    assert not (stepbox.directory / "out").exists()


def test_exec_writes_artifacts_into_a_directory(stepbox: Stepbox) -> None:
    code = "import os\nos.mkdir('artifacts/a')\nopen('artifacts/a/x', 'w').write('x')\nraise ValueError('no')"
    outcome = stepbox("exec", "-l", "python", "--artifacts", "out", "--output", "json", stdin=code)
    assert outcome.status == 1
    assert [one["path"] for one in outcome.json()["artifacts"]] == ["a/x"]
    assert files(stepbox.directory / "out") == {"a/x": b"x"}
    outcome = stepbox("exec", "-l", "shell", "--artifacts", "out", stdin="echo y > artifacts/y")
    assert (outcome.status, files(stepbox.directory / "out")) == (0, {"a/x": b"x", "y": b"y\n"})
    assert "wrote out/y" in outcome.stderr


def test_artifacts_may_be_kept_elsewhere(stepbox: Stepbox) -> None:
    place = stepbox.directory / "elsewhere"
    stepbox = replace(stepbox, environment={**stepbox.environment, "STEPBOX_ARTIFACTS_URL": str(place)})
    run = stepbox("run", stepbox.flow("make", FLOW), "--output", "json").json()["run_id"]
    assert len([path for path in place.glob("??/*") if path.is_file()]) == 4
    assert not (stepbox.directory / ".stepbox" / "artifacts").exists()
    assert stepbox("runs", "download", run, "--to", "out").status == 0
    stepbox = replace(stepbox, environment={**stepbox.environment, "STEPBOX_ARTIFACTS_URL": "s3://bucket/path"})
    refused = stepbox("run", "make.yaml", "--output", "json")
    assert refused.status == 1
    assert refused.json()["error"]["code"] == "artifacts_unavailable"
    assert "s3fs" in refused.json()["error"]["message"]
