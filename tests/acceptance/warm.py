"""The installed ``stepbox``, warm: a process that has imported it and forks for each call, of which each is a process.

Imports are two thirds of what a short run costs, and the tests of the library make many runs. Executed by the
interpreter of the installation. Reads a line of JSON for each call (arguments, directory, environment, and the files
of its standard streams) and answers with its exit status; says "ready" when it has imported all.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

IMPORTED = (
    *("ui.cli.app", "ui.cli.run", "ui.cli.execute", "ui.cli.init", "ui.cli.validate", "ui.cli.progress"),
    *("engine.bootstrap.parts", "engine.local_service", "engine.installation", "engine.orchestrator.prefect_gears"),
    *("steps.tools.workspace", "steps.tools.http_request", "steps.tools.shared_files", "jsonschema"),
)


def serve(home: Path) -> None:
    from engine.orchestrator.environment import prepare  # noqa: PLC0415 - of the installation, not of the tests

    prepare(home, None)
    for name in IMPORTED:
        importlib.import_module(name)
    answer("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            call(json.loads(line))
        _, status = os.waitpid(child, 0)
        answer(str(os.waitstatus_to_exitcode(status)))


def answer(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def call(what: dict[str, object]) -> NoReturn:
    """Become the command that was asked for."""
    streams = [str(what[name]) for name in ("stdin", "stdout", "stderr")]
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - for ever
    os.chdir(str(what["directory"]))
    os.environ.clear()
    os.environ.update(dict(what["environment"]))  # type: ignore[call-overload]
    sys.argv = ["stepbox", *what["arguments"]]  # type: ignore[misc]
    from ui.cli import main  # noqa: PLC0415 - of the installation

    main()
    sys.exit()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
