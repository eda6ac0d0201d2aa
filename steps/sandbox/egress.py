"""The network of one job: each request of its code is judged, counted, recorded and made here, on the host.

The code's connections arrive as streams from the proxy in its sandbox (guest/proxy.py), which decides nothing. A host
is judged by the step's allowlist before anything is asked about it, resolved once, and connected to at an address that
was judged; what goes through a tunnel must be TLS for the very name that the tunnel was asked for.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import h11

from flows.contracts import EgressDecision, StepError
from flows.values import Json
from steps.addresses import Address
from steps.sandbox.channel import StreamFrame
from steps.sandbox.client_hello import UNRECOGNIZED_NAME
from steps.sandbox.gate import Gate, NotMadeError
from steps.sandbox.limits import MB, Limits
from steps.sandbox.protocol import Journal, Network
from steps.sandbox.proxy_request import BadRequestError, Inquiry, Plain, Tunnel, understand
from steps.sandbox.relay import Budget, Client, Server, TransferExceededError, exchange, tunnel
from steps.sandbox.streams import Line, Stream, StreamClosedError, Streams

REMEMBERED: Final = 20
"""Requests that were not made, of which the proxy tells the code when asked."""

T = TypeVar("T")


class Egress:
    """What a job does on the network. ``requests`` counts its requests, whatever became of them.

    ``note`` takes a line for the code's stderr, ``exceed`` is told once which limit the job has passed, and ``broken``
    gets errors of the host's own.
    """

    def __init__(
        self,
        network: Network,
        limits: Limits,
        journal: Journal,
        *,
        line: Line,
        note: Callable[[str], Awaitable[None]],
        exceed: Callable[[StepError], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._network = network
        self._limits = limits
        self._journal = journal
        self._note = note
        self._exceed = exceed
        self._exceeded = False
        self._gate = Gate(network, Budget(limits.transfer))
        self._not_made: deque[Json] = deque(maxlen=REMEMBERED)
        self._streams = Streams(line, self._serve, broken)
        self.requests = 0
        self.not_made: str | None = None
        """Why the last request that wasn't made wasn't, with the fix."""

    def hear(self, frame: StreamFrame) -> None:
        """Take a frame of the guest.

        Raises:
            ChannelError: no honest guest sends it.
        """
        self._streams.hear(frame)

    async def close(self) -> None:
        """End all connections; returns once each has its record."""
        await self._streams.close()

    async def _serve(self, stream: Stream) -> None:
        client, entry = Client(stream), _Entry(self._journal)
        try:
            asked = await self._asked(client, entry)
            if isinstance(asked, Inquiry):
                await client.answer(200, self._told(), [("Content-Type", "application/json")])
            elif asked is not None:
                await self._make(asked, stream, client, entry)
        except NotMadeError as problem:
            await self._refuse(problem, stream, client, entry)
        finally:
            await entry.end()
        stream.close()

    async def _asked(self, client: Client, entry: "_Entry") -> Tunnel | Plain | Inquiry | None:
        """The request, counted; None where the code ended without one."""
        try:
            async with asyncio.timeout(self._network.timeouts.head):
                request = await client.request()
            asked = None if request is None else understand(request)
        except TimeoutError:
            fix = "send the request at once"
            raise NotMadeError(408, "slow_request", "the request did not come in time", fix=fix) from None
        except BadRequestError as error:
            entry.name(error.target or "?", 0)
            self._count()
            raise NotMadeError(400, "bad_request", error.message, fix=error.fix) from None
        if isinstance(asked, Tunnel | Plain):
            entry.name(asked.endpoint.host, asked.endpoint.port)
            self._count()
        return asked

    def _count(self) -> None:
        self.requests += 1
        if self.requests > self._limits.requests:
            reason = f"the code made more than {self._limits.requests} requests over the network"
            fix = "raise limits.requests, or make fewer requests"
            raise NotMadeError(429, "too_many_requests", reason, fix=fix)

    async def _make(self, asked: Tunnel | Plain, stream: Stream, client: Client, entry: "_Entry") -> None:
        self._gate.judge(asked)
        await self._gate.deny(asked.endpoint)
        server, entry.address = await self._gate.connect(asked.endpoint)
        entry.server = server
        try:
            if isinstance(asked, Tunnel):
                first = await client.begin_tunnel()
                first = await self._gate.hello(stream, asked.endpoint, first)
                await entry.begin()
                passing = tunnel(stream, server, first)
            else:
                await entry.begin()
                passing = exchange(client, server, asked)
            entry.reason = await self._pass(passing, server)
        finally:
            server.close()
        if entry.reason is None:
            return
        if not client.answered:
            fix = "look at the server, or try again"
            raise NotMadeError(502, "broken_off", entry.reason, fix=fix, permitted=True)
        stream.close(reset=True)

    async def _pass(self, passing: Coroutine[Any, Any, None], server: Server) -> str | None:
        """Pass the bytes of a request; gives why they broke off, if they did."""
        try:
            async with server.watched():
                await passing
        except StreamClosedError:
            raise
        except TransferExceededError:
            limit = f"{self._limits.transfer / MB:g} MB"
            self._pass_limit("too_much_transfer", f"the code moved more than {limit} over the network", "transfer")
            return f"the step's limit of {limit} is used up"
        except TimeoutError:
            return f"nothing moved for {self._network.timeouts.idle:g} s"
        except (OSError, h11.ProtocolError) as error:
            return f"the connection broke off: {error}"
        return None

    async def _refuse(self, problem: NotMadeError, stream: Stream, client: Client, entry: "_Entry") -> None:
        await entry.refuse(problem)
        what = "not reached" if problem.permitted else "refused"
        text = f"{entry.target} {what}: {problem.reason}; {problem.fix}"
        if entry.host is not None:
            self._remember(entry.host, entry.port, text, permitted=problem.permitted)
            await self._note(f"network: {text}")
        if problem.code == "too_many_requests":
            self._pass_limit(problem.code, problem.reason, "requests")
        if not client.answered:
            await client.refuse(problem.status, problem.code, text)
            return
        if problem.code != "not_tls":
            await stream.write(UNRECOGNIZED_NAME)
        stream.close(reset=problem.code == "not_tls")

    def _remember(self, host: str, port: int, text: str, *, permitted: bool) -> None:
        told = {"host": host, "port": port, "allowed": permitted, "message": text}
        self._not_made.append({"number": self.requests, **told})
        self.not_made = text

    def _pass_limit(self, code: str, message: str, limit: str) -> None:
        if not self._exceeded:
            self._exceeded = True
            self._exceed(StepError(code=code, message=message, fix=f"raise limits.{limit}, or use the network less"))

    def _told(self) -> bytes:
        """What the proxy tells the code about its network."""
        told = {
            "allow": ["*"] if self._network.allow.everywhere else list(self._network.allow.entries),
            "requests": self.requests,
            "limit": self._limits.requests,
            "not_made": list(self._not_made),
        }
        return json.dumps(told).encode()


class _Entry:
    """The record of one request, written as things happen and whole at its end, however that comes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._id: str | None = None
        self._decided = False
        self.host: str | None = None
        self.port = 0
        self.address: Address | None = None
        self.server: Server | None = None
        self.reason: str | None = None
        """Why an allowed request broke off."""

    @property
    def target(self) -> str:
        """What the request is to, for a person."""
        return f"{self.host}:{self.port}" if self.port else self.host or "a request"

    def name(self, host: str, port: int) -> None:
        """Say what the request is to; without it there is nothing to record."""
        self.host, self.port = host, port

    async def begin(self) -> None:
        """Record that the request is let through, before a byte of it is."""
        self._id = await self._record(allowed=True, reason=None)

    async def refuse(self, problem: NotMadeError) -> None:
        """Record that it isn't made."""
        if not self._decided:
            await self._record(allowed=problem.permitted, reason=problem.reason)

    async def end(self) -> None:
        """Record what went through."""
        if self._id is not None and self.server is not None:
            number, self._id = self._id, None
            sent, received = self.server.sent, self.server.received
            await _kept(self._journal.finish_egress(number, sent=sent, received=received, reason=self.reason))
        elif not self._decided:
            await self._record(allowed=False, reason="the code went away before it was decided")

    async def _record(self, *, allowed: bool, reason: str | None) -> str | None:
        self._decided = True
        if self.host is None:
            return None
        address = None if self.address is None else str(self.address)
        decision = EgressDecision(host=self.host, port=self.port, address=address, allowed=allowed, reason=reason)
        return await _kept(self._journal.record_egress(decision))


async def _kept(writing: Coroutine[Any, Any, T]) -> T:
    """Write to the journal, to the end even where that is cancelled."""
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
