"""What was accepted is there after the process was killed."""

import asyncio
import signal
import sys
from pathlib import Path

from engine.store import Store
from flows.values import StepStatus

WRITE = """
import asyncio, sys
from datetime import UTC, datetime
from engine.records import LogLine
from engine.store import Store
from flows.contracts import StepResult
from flows.values import StepStatus

async def main():
    store = await Store.open(sys.argv[1])
    version = await store.flows.put_version("default", "flow", "text", {}, "digest")
    run = await store.runs.create(version, {}, running=True)
    print(run.id, flush=True)
    number = 0
    while True:
        number += 1
        step = await store.steps.start(run.id, f"s{number}")
        await store.steps.finish(step.id, StepResult(status=StepStatus.SUCCEEDED, result=number))
        print(number, flush=True)
        async with store.transaction():
            await store.steps.start(run.id, f"t{number}")
            line = LogLine(run_id=run.id, step_id="s", attempt=1, stream="stdout", line="x" * 10_000, at=datetime.now(UTC))
            await store.logs.append([line])
            if number == 50:
                print("open", flush=True)
                await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_what_was_accepted_survives_kill_9(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'stepbox.db'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(120):
        acknowledged = 0
        run_id = (await process.stdout.readline()).decode().strip()
        while (line := await process.stdout.readline()) != b"open\n":
            acknowledged = int(line)
        process.kill()
        await process.communicate()
    assert process.returncode == -signal.SIGKILL
    async with await Store.open(url) as store:
        steps = await store.steps.list(run_id)
        assert acknowledged == 50
        finished = [step.result for step in steps if step.step_id.startswith("s")]
        assert finished == list(range(1, acknowledged + 1))
        assert all(step.status is StepStatus.SUCCEEDED for step in steps if step.step_id.startswith("s"))
        in_transactions = [step.step_id for step in steps if step.step_id.startswith("t")]
        assert in_transactions == [f"t{number}" for number in range(1, 50)]
        async with asyncio.timeout(30):
            await store.leases.take_over(run_id, dead=(await store.runs.get(run_id)).owner)
            await store.steps.start(run_id, "after")
