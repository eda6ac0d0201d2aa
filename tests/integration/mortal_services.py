"""``stepbox serve`` in processes that have imported it: one that forks for each start, of which each is real.

Executed by the tests. Reads a line of JSON for each request and answers with one: ``start`` gives the pid of a new
service, ``end`` waits for the end of the one with a pid and of everything that it had started, and gives its exit
status.
"""

import ctypes
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from engine.orchestrator.environment import prepare

IMPORTED = (
    *("ui.cli.app", "ui.cli.serve", "ui.cli.service_log", "ui.api.app", "uvicorn", "jsonschema"),
    *("engine.bootstrap.parts", "engine.local_serving", "engine.orchestrator.prefect_gears"),
    *("steps.tools.workspace", "steps.tools.http_request", "steps.sandbox.nsjail"),
)
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: who loses its parent becomes this process's child."""


def serve(home: Path) -> None:
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    prepare(home, None)
    for name in IMPORTED:
        importlib.import_module(name)
    answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        answer(ended(request["end"]) if "end" in request else start(request["start"]))


def start(what: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        become(what)
    return child


def ended(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return os.waitstatus_to_exitcode(status)


def become(what: dict[str, Any]) -> NoReturn:
    for number, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), *[(what["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)] * 2]
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - for ever
    os.environ.update(what["environment"])
    sys.argv = ["stepbox", *what["arguments"]]
    for name, value in what["constants"].items():
        module, _, constant = name.partition(":")
        setattr(importlib.import_module(module), constant, value)
    from ui.cli import main  # noqa: PLC0415 - in the fork, with its own environment

    main()
    sys.exit()


def answer(what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
