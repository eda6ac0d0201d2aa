"""``stepbox runs artifacts`` and ``stepbox runs download``: the files that the steps of a run left."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError
from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption, RunArgument
from ui.cli.show import literal, out, plain, print_json, size, table, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.records import ArtifactRecord
    from engine.report import RunReport
    from engine.service import Service
    from flows.contracts import Artifact

NAMED = 10
"""Artifacts that are shown by name where there may be many."""


class UnknownArtifactError(InvalidCallError):
    """The run has no artifact of that name."""

    code = "unknown_artifact"


def artifacts(
    run: RunArgument,
    every: Annotated[bool, typer.Option("--all", help="Those of earlier attempts too.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the files that the steps of a run left.

    Example: `stepbox runs artifacts 01JD`
    """

    async def work() -> int:
        from rich.text import Text

        from engine.bootstrap import open_service
        from engine.documents import artifact_record_document

        async with open_service() as service:
            records = [record for record in await service.run_artifacts(run) if every or not record.superseded]
        if output is Output.JSON:
            print_json([artifact_record_document(record) for record in records])
            return 0
        grid = table("ARTIFACT", "SIZE", "TYPE", *(["ATTEMPT"] if every else []), "SHA-256")
        for record in records:
            attempt = [f"{record.attempt}{' (superseded)' if record.superseded else ''}"] if every else []
            grid.add_row(Text(plain(record.name)), size(record.size), record.media_type, *attempt, record.sha256[:12])
        out().print(grid if records else "[dim]no artifacts[/]")
        return 0

    leave(work, output)


def download(
    run: RunArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STEP/NAME…", help="Artifacts; `STEP` alone is all of a step. Left out: all of the run."
        ),
    ] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to; each gets STEP/NAME below it.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write files that the steps of a run left into a directory.

    Example: `stepbox runs download 01JD report/summary.html --to out`
    """

    async def work() -> int:
        from engine.bootstrap import open_service

        async with open_service() as service:
            records = [record for record in await service.run_artifacts(run) if not record.superseded]
            wanted = {record.name: record.artifact for record in _chosen(records, names or [])}
            paths = await save_artifacts(service, wanted, to, overwrite=overwrite)
        if output is Output.JSON:
            print_json([str(path) for path in paths])
        else:
            write("".join(f"{plain(str(path))}\n" for path in paths))
        return 0

    leave(work, output)


async def save_artifacts(
    service: "Service", wanted: "Mapping[str, Artifact]", directory: Path, *, overwrite: bool
) -> "Sequence[Path]":
    """Write artifacts, by their paths below a directory.

    Raises:
        StepboxError: they can't be had, or can't be written.
    """
    import asyncio

    from engine.downloads import save

    contents = await service.fetch_artifacts(tuple(wanted.values()))
    files = dict(zip(wanted, contents, strict=True))
    return await asyncio.to_thread(save, files, directory, overwrite=overwrite)


def show_artifacts(report: "RunReport") -> "Iterator[str]":
    """Lines, for markup, that name what the steps of a run left, and how to have it; none where they left nothing."""
    left = [(f"{step_id}/{one.path}", one.size) for step_id, step in report.steps.items() for one in step.artifacts]
    if left:
        yield f"[bold]artifacts[/] [dim]stepbox runs download {report.run.id}[/]"
    for name, bytes_ in left[:NAMED]:
        yield f"  {literal(name)} [dim]{size(bytes_)}[/]"
    if len(left) > NAMED:
        yield f"  [dim]and {len(left) - NAMED:,} more[/]"


def _chosen(records: "Sequence[ArtifactRecord]", names: list[str]) -> "Sequence[ArtifactRecord]":
    if not names:
        return records
    chosen: dict[str, ArtifactRecord] = {}
    for name in names:
        step = name.removesuffix("/*").removesuffix("/")
        found = [record for record in records if record.name == name or record.step_id == step]
        if not found:
            there = ", ".join(record.name for record in records[:NAMED]) or "it has none"
            raise UnknownArtifactError(
                f"the run has no artifact {name!r}: {there}", fix="see the names with: stepbox runs artifacts RUN"
            )
        chosen |= {record.name: record for record in found}
    return list(chosen.values())
