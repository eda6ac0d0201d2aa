"""Draws the picture of the README from a real run: `.venv/bin/python scripts/picture.py`, after `make demo`.

Runs the demo's flow on a pseudo-terminal and keeps what the terminal shows at the end.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".cache" / "demo"
PICTURE = ROOT / "docs" / "images" / "demo.svg"
ROWS, COLUMNS = 50, 100
COMMAND = "stepbox run flight_weather.yaml"


def main() -> None:
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    console.print(f"[bold green]$[/] {COMMAND}")
    for line in final_screen(run()):
        console.print(Text.from_ansi(line))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    # Without rich's web fonts: a picture must not load anything.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(PICTURE), title="stepbox", code_format=template)


def run() -> str:
    """What the command writes to a terminal of that size; its standard output, the result, is left out."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "STEPBOX_HOME": "stepbox", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    command = [str(Path(sys.executable).parent / "stepbox"), *COMMAND.split()[1:]]
    with subprocess.Popen(
        command, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, cwd=DEMO, env=environment, close_fds=True
    ):
        os.close(slave)
        written = b""
        while chunk := _read(master):
            written += chunk
    return written.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


def final_screen(written: str) -> list[str]:
    """The lines left on the screen, following the cursor as far as rich's live view moves it."""
    lines = [""]
    row = 0
    position = 0
    while position < len(written):
        character = written[position]
        if character == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif character == "\r":
            pass
        elif written.startswith("\x1b[", position):
            end = next(index for index in range(position + 2, len(written)) if written[index].isalpha())
            sequence = written[position : end + 1]
            position = end
            match sequence[-1]:
                case "A":
                    row -= int(sequence[2:-1])
                case "K":
                    lines[row] = ""
                case "m":
                    lines[row] += sequence
        else:
            lines[row] += character
        position += 1
    return lines


if __name__ == "__main__":
    main()
