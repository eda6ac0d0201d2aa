"""The doctor against containers."""

import os
from pathlib import Path

from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.doctor import contents
from steps.sandbox.doctor.canaries import SCRATCH, VARIABLE, plant
from steps.sandbox.doctor.examination import examine
from steps.sandbox.doctor.table import GUARANTEES
from steps.sandbox.nsjail import NsjailRunner


async def test_doctor_finds_nothing_missing(containers: DockerRunner, tmp_path: Path) -> None:
    async with plant(tmp_path) as canaries:
        examination = await examine(containers, GUARANTEES, canaries, hardening=lambda _enforcement: "allow cgroups")
    assert examination.refused is None
    assert [proof.guarantee for proof in examination.proofs] == list(GUARANTEES)
    assert {
        (proof.guarantee.id, proof.evidence) for proof in examination.proofs if proof.verdict != "enforced"
    } == set()
    assert VARIABLE not in os.environ
    assert planted_files() == []


def planted_files() -> list[Path]:
    return [path for place in SCRATCH for path in Path(place).glob(f"stepbox-doctor-{os.getpid()}-*")]


async def test_doctor_knows_whether_steps_of_images_run(containers: DockerRunner) -> None:
    found = await contents.images(containers)
    assert (found.id, found.state, found.fix) == ("images", "ok", None), found
    jail = NsjailRunner()
    refused = await contents.images(jail)
    await jail.close()
    assert refused.state == "warning"
    assert "`stepbox images build`" in str(refused.fix)
