"""``stepbox images``: the image that Docker sandboxes start from."""

from typing import Annotated

import typer

from ui.cli.doors import leave
from ui.cli.options import Output, OutputOption
from ui.cli.show import err, literal, out, print_json, table

app = typer.Typer(help="The image that Docker sandboxes start from.", no_args_is_help=True)

MEGABYTE = 1_000_000


@app.command()
def build(
    base: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Build on this image, which has Python 3.11 or newer and glibc."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="The network of the build, as of `docker build`: host, none, …"),
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Build the image of Docker sandboxes on the Docker Engine, by default on python:3.12-slim-bookworm.

    Each version of Stepbox has an image of its own. Once it is there, steps run in containers of it, unless
    STEPBOX_RUNNER says otherwise.

    Example: `stepbox images build`
    """

    async def work() -> int:
        from engine.bootstrap import build_image
        from ui.cli.progress import PlainView

        image = await build_image(PlainView(err()), base=base, network=network)
        if output is Output.JSON:
            print_json(image.document())
            return 0
        console = out()
        console.print(f"[green]✓[/] image  {literal(image.reference)}")
        console.print(f"[green]✓[/] base   {literal(image.base)}")
        console.print(f"[green]✓[/] size   {image.size / MEGABYTE:.0f} MB")
        return 0

    leave(work, output)


@app.command("list")
def list_(output: OutputOption = Output.TEXT) -> None:
    """List the images of Docker sandboxes that the Docker Engine has.

    Example: `stepbox images list`
    """

    async def work() -> int:
        from engine.bootstrap import guest_images

        images = await guest_images()
        if output is Output.JSON:
            print_json([image.document() for image in images])
            return 0
        grid = table("IMAGE", "BASE", "SIZE", "CREATED", "")
        for image in images:
            grid.add_row(
                literal(image.reference),
                literal(image.base),
                f"{image.size / MEGABYTE:.0f} MB",
                image.created[:16].replace("T", " "),
                "in use" if image.current else "[dim]of another version[/]",
            )
        out().print(grid if images else "[dim]no image yet: `stepbox images build`[/]")
        return 0

    leave(work, output)
