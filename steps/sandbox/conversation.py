"""What the host and one sandbox say to each other while a job runs, whatever the runner."""

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flows.contracts import StepError
from flows.errors import StepboxError
from flows.values import Json
from steps.sandbox import channel
from steps.sandbox.output import Output, Stream
from steps.sandbox.protocol import Host, Job, SandboxLostError
from steps.sandbox.values import NotJsonError, decode

if TYPE_CHECKING:
    from steps.sandbox.artifacts import Collected
    from steps.sandbox.egress import Egress

LARGE_ARGUMENTS = 256 * 1024
"""Bytes of JSON; such a text can be thirty times as large once it is read."""


class Conversation:
    """One job's exchange of frames. Read its attributes once :meth:`run` has returned."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job, host: Host) -> None:
        self._reader = reader
        self._writer = writer
        self._job = job
        self._host = host
        self._calls: set[asyncio.Task[None]] = set()
        self._large_calls = asyncio.Semaphore(1)
        self._muted = False
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.output = Output(job.limits.output, job.mask)
        self.taken = False
        """Whether the guest got its job, so that code may have run."""
        self.prepared = asyncio.Event()
        """Set once code in another container may start."""
        self.result: bytes | None = None
        self.failure: bytes | None = None
        self.wait_status: int | None = None
        """As ``waitpid`` gives it; None where the sandbox ended before it could say."""
        self.violation: str | None = None
        self.tool_calls = 0
        self.exceeded: StepError | None = None
        """The limit that the code has passed; nothing more was heard after that."""
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._egress = self._open_egress()
        self._leaves = False
        self.collected: Collected | None = None
        """What came of the files that the code left; None where it left none, or they weren't asked for."""

    async def bring(self) -> None:
        """Put the job's files into the sandbox, before the job and outside of its time.

        Raises:
            SandboxLostError: it doesn't take them.
        """
        if self._job.files:
            from steps.sandbox import artifacts  # noqa: PLC0415 - most steps get no files

            bringing = asyncio.ensure_future(artifacts.bring(self._job.files, self))
            # A guest says nothing before it has its job: whatever comes is its end.
            ended = asyncio.ensure_future(self._reader.readexactly(1))
            try:
                await asyncio.wait({bringing, ended}, return_when=asyncio.FIRST_COMPLETED)
                if bringing.done():
                    bringing.result()
            except TimeoutError as problem:
                raise SandboxLostError from problem
            finally:
                bringing.cancel()
                ended.cancel()
                await asyncio.gather(bringing, ended, return_exceptions=True)

    async def run(self) -> None:
        """Send the job and listen until the user's process has ended, or the sandbox is gone.

        Errors of the host's own log or tools (other than a :class:`StepboxError` of a tool) propagate.
        """
        try:
            listening = asyncio.ensure_future(self._exchange())
            try:
                await asyncio.wait({listening, self._broken, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
                if self._broken.done():
                    self._broken.result()
                if not self._stopped.done():
                    await listening
            finally:
                await _cancel(listening)
                # What was printed without a line end.
                for stream, line in self.output.finish():
                    await self._host.log(stream, line)
            while self._calls and self.exceeded is None:
                await asyncio.wait(self._calls)
        finally:
            for call in list(self._calls):
                await _cancel(call)
            if self._egress is not None:
                await self._egress.close()
            self._stopped.cancel()
            if not self._broken.done():
                self._broken.cancel()
        if not self._broken.cancelled():
            self._broken.result()

    async def collect(self) -> None:
        """Take the files that the code left, once it has ended and the sandbox is still there."""
        if self._leaves and self._job.artifact_directory is not None:
            from steps.sandbox import artifacts  # noqa: PLC0415 - most steps leave no files

            self.collected = await artifacts.collect(self._reader, self._job.limits, self._job.artifact_directory)
            for note in self.collected.notes:
                await self._host.log("stderr", note)

    def signal(self, number: int) -> None:
        """Send a signal to all of the user's processes."""
        self.send({"kind": "signal", "number": number})

    def end(self, wait_status: int) -> None:
        """Tell the guest that code in another container has ended; it answers with what it left."""
        self.send({"kind": "ended", "status": wait_status})

    async def hear(self, stream: Stream, data: bytes) -> None:
        """Take output of the code."""
        for each, line in self.output.feed(stream, data):
            await self._host.log(each, line)

    def fail(self, error: StepError) -> None:
        """Say why code in another container could not run; the guest is not asked any more."""
        told = {"code": error.code, "message": error.message, "fix": error.fix}
        self.failure = json.dumps(told).encode()

    async def _exchange(self) -> None:
        try:
            self._send_job()
        except ValueError as error:
            told = {"code": "inputs_unusable", "message": f"the code or its inputs can't be sent: {error}"}
            self.failure = json.dumps(told).encode()
            return
        try:
            while await self._listen():
                pass
        except channel.ChannelError as error:
            self.violation = str(error)
        except ConnectionError:
            pass

    @property
    def requests(self) -> int:
        """Requests over the network, made or not."""
        return 0 if self._egress is None else self._egress.requests

    @property
    def not_made(self) -> str | None:
        """Why the last request over the network that wasn't made wasn't, with the fix."""
        return None if self._egress is None else self._egress.not_made

    def _open_egress(self) -> "Egress | None":
        network = self._job.network
        if network is None:
            return None
        from steps.sandbox.egress import Egress  # noqa: PLC0415 - most steps have no network

        assert self._job.journal is not None
        return Egress(
            network,
            self._job.limits,
            self._job.journal,
            line=self,
            note=self._note,
            exceed=self._exceed,
            broken=self._break,
        )

    def _send_job(self) -> None:
        job = self._job
        code = job.code.encode()
        inputs = json.dumps(dict(job.inputs), allow_nan=False).encode()
        secrets = json.dumps(dict(job.secrets)).encode()
        header: dict[str, Any] = {
            "kind": "job",
            "code": len(code),
            "inputs": len(inputs),
            "filename": job.filename,
            "tools": list(job.tools),
            "environment": dict(job.environment),
            "result_limit": job.limits.result,
            "elsewhere": job.container is not None,
            "artifacts": None,
        }
        if job.artifact_directory is not None:
            header["artifacts"] = job.limits.of_artifacts()
        if job.network is not None:
            self.send({"kind": "network"}, job.network.authorities)
        self.send(header, code + inputs + secrets)

    async def _listen(self) -> bool:
        """Handle one frame; False after the last."""
        # The guest refuses larger results itself, with a better message; this cap is for one that doesn't.
        frame = await channel.read_frame(self._reader, max_result=self._job.limits.result)
        if self._egress is not None and isinstance(frame, channel.StreamFrame):
            self._egress.hear(frame)
            return True
        return await self._take(frame)

    async def _take(self, frame: channel.Frame | None) -> bool:
        match frame:
            case channel.Taken() if not self.taken:
                self.taken = True
            case channel.Prepared() if self._job.container is not None and not self.prepared.is_set():
                self.prepared.set()
            case channel.Log():
                await self.hear(frame.stream, frame.data)
                if self.output.truncated and not self._muted:
                    self._muted = True
                    self.send({"kind": "mute"})
            case channel.Call() if self.result is None and self.failure is None:
                return self._call(frame)
            case channel.Result() if self.result is None and self.failure is None:
                self.result = frame.data
            case channel.Failure() if self.result is None and self.failure is None:
                self.failure = frame.data
            case channel.Exit():
                self.wait_status = frame.status
                self._leaves = frame.artifacts
                return False
            case None:
                return False
            case _:
                raise channel.ChannelError("a frame out of turn")
        return True

    def _call(self, call: channel.Call) -> bool:
        self.tool_calls += 1
        if self.tool_calls > self._job.limits.tool_calls:
            self.tool_calls -= 1
            self.exceeded = StepError(
                code="too_many_tool_calls",
                message=f"the code made more than {self._job.limits.tool_calls} tool calls",
                fix="raise limits.tool_calls, or make fewer calls",
            )
            return False
        task = asyncio.create_task(self._answer(call))
        self._calls.add(task)
        task.add_done_callback(self._called)
        return True

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._break(error)

    async def _answer(self, call: channel.Call) -> None:
        answer: Json
        if call.tool not in self._job.tools:
            have = ", ".join(sorted(self._job.tools)) or "none"
            answer = {
                "code": "tool_not_granted",
                "message": f"the tool {call.tool!r} is not granted to this step; "
                f"add it to the step's `tools:` (granted: {have})",
            }
            self.send({"kind": "tool_result", "id": call.id, "ok": False}, _encode(answer))
            return
        succeeded = False
        try:
            answer = await self._make(call)
            succeeded = True
        except NotJsonError as error:
            answer = {"code": "arguments_not_json", "message": str(error)}
        except StepboxError as error:
            answer = {"code": error.code, "message": str(error)}
        try:
            self.send({"kind": "tool_result", "id": call.id, "ok": succeeded}, _encode(answer))
        except ValueError as error:
            answer = {"code": "tool_result_too_large", "message": f"{call.tool}: {error}"}
            self.send({"kind": "tool_result", "id": call.id, "ok": False}, _encode(answer))

    async def _make(self, call: channel.Call) -> Json:
        """Let the host make the call; those with large arguments one after the other, for each is larger in memory."""
        if len(call.arguments) <= LARGE_ARGUMENTS:
            return await self._host.call_tool(call.tool, decode(call.arguments, "arguments"))
        async with self._large_calls:
            arguments = await asyncio.to_thread(decode, call.arguments, "arguments")
            return await self._host.call_tool(call.tool, arguments)

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame to the guest, if that is still there."""
        if not self._writer.is_closing():
            self._writer.write(channel.encode(header, payload))

    async def drain(self) -> None:
        """Returns once there is room for more frames, or nobody who would take them."""
        with suppress(ConnectionError):
            await self._writer.drain()

    async def _note(self, line: str) -> None:
        for stream, part in self.output.note(line):
            await self._host.log(stream, part)

    def _exceed(self, error: StepError) -> None:
        self.exceeded = self.exceeded or error
        if not self._stopped.done():
            self._stopped.set_result(None)

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)


def _encode(value: Json) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


async def _cancel(task: asyncio.Future[None]) -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
