"""The command line: ``stepbox``."""


def main() -> None:
    """Run the command line; the entry point of the ``stepbox`` script."""
    from ui.cli.app import app  # noqa: PLC0415 - so that importing the package costs nothing

    app()
