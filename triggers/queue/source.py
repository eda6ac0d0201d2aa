"""The messages of a Redis stream as events.

Each is read through a consumer group and acknowledged only when its event is kept. What a process that died had read,
and not acknowledged, is claimed by another one after a while (``XAUTOCLAIM``).
"""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flows.events import Arrival, Event
from flows.values import Json
from triggers.queue.config import QueueTrigger

if TYPE_CHECKING:
    from redis.asyncio import Redis

Message: TypeAlias = tuple[bytes, Mapping[bytes, bytes]]
"""Id and fields; none where the message was deleted while it was pending."""

MAX_MESSAGE: Final = 1_000_000
"""Bytes of one message."""
MAX_DELIVERIES: Final = 5
"""How often a message is delivered; one that is still not acknowledged then is unfit."""
IDLE: Final = 60.0
"""Seconds after which what another process has read is taken from it. Keeping an event takes milliseconds."""
PREFETCH: Final = 16
"""Messages that may wait for being acknowledged."""
_BLOCK: Final = 2.0
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 30.0


class QueueSource:
    """Tells of the messages of one stream.

    ``url`` is where Redis is; ``consumer`` names this process within the group, and should be the same after a restart,
    so that what it had read is told of at once. A group that isn't there yet is made so that it begins with the oldest
    message.
    """

    def __init__(
        self, trigger: QueueTrigger, *, url: str, consumer: str, idle: float = IDLE, prefetch: int = PREFETCH
    ) -> None:
        """Connect to nothing yet."""
        self._stream, self._group = trigger.queue.stream, trigger.queue.group
        self._url = url
        self._consumer = consumer
        self._idle = idle
        self._prefetch = prefetch
        self._open: set[bytes] = set()
        self._owed: set[bytes] = set()
        self._room = asyncio.Event()
        self._client: Redis | None = None
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        return self._trouble

    async def arrivals(self) -> AsyncIterator[Arrival]:
        """The messages as they come; where Redis goes away, it is waited for."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - only queues need it

        loop, delay = asyncio.get_running_loop(), _FIRST_DELAY
        try:
            while True:
                began = loop.time()
                try:
                    async with contextlib.aclosing(self._connected()) as messages:
                        async for arrival in messages:
                            yield arrival
                except (RedisError, OSError) as error:
                    self._trouble = f"{type(error).__name__}: {error}"
                    await self._disconnect()
                    if loop.time() - began > _LONGEST_DELAY:
                        delay = _FIRST_DELAY
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads those who come back
                    delay = min(delay * 2, _LONGEST_DELAY)
        finally:
            await self._disconnect()

    async def _connected(self) -> AsyncGenerator[Arrival]:
        from redis.asyncio import Redis  # noqa: PLC0415 - only queues need it
        from redis.asyncio.retry import Retry  # noqa: PLC0415 - the same
        from redis.backoff import NoBackoff  # noqa: PLC0415 - the same

        client: Redis = Redis.from_url(
            self._url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=5, socket_timeout=_BLOCK + 5
        )
        self._client = client
        await self._make_group(client)
        self._trouble = None
        loop = asyncio.get_running_loop()
        for arrival in await self._tell(client, await self._read(client, "0", count=self._prefetch), repeated=True):
            yield arrival
        claim_at = loop.time()
        while True:
            await self._settle_debts(client)
            if len(self._open) >= self._prefetch:
                self._room.clear()
                # Python 3.11's `wait_for` loses a cancellation that comes together with the news.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BLOCK):
                        await self._room.wait()
                continue
            if loop.time() >= claim_at:
                claim_at = loop.time() + self._idle / 2
                for arrival in await self._tell(client, await self._claim(client), repeated=True):
                    yield arrival
            block = max(0.01, min(_BLOCK, claim_at - loop.time()))
            count = max(1, self._prefetch - len(self._open))
            for arrival in await self._tell(client, await self._read(client, ">", count=count, block=block)):
                yield arrival

    async def _make_group(self, client: "Redis") -> None:
        from redis.exceptions import ResponseError  # noqa: PLC0415 - only queues need it

        try:
            await client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _read(self, client: "Redis", begin: str, *, count: int, block: float | None = None) -> list[Message]:
        milliseconds = None if block is None else max(1, int(block * 1000))
        answer: Any = await client.xreadgroup(
            self._group, self._consumer, {self._stream: begin}, count=count, block=milliseconds
        )
        streams = answer.values() if isinstance(answer, Mapping) else [messages for _, messages in answer or ()]
        return [message for messages in streams for message in _flat(messages)]

    async def _claim(self, client: "Redis") -> list[Message]:
        count = max(1, self._prefetch - len(self._open))
        answer: Any = await client.xautoclaim(
            self._stream, self._group, self._consumer, min_idle_time=int(self._idle * 1000), start_id="0-0", count=count
        )
        return _flat(answer[1])

    async def _tell(self, client: "Redis", messages: list[Message], *, repeated: bool = False) -> list[Arrival]:
        fresh = [(identity, fields) for identity, fields in messages if identity not in self._open | self._owed]
        deliveries = await self._deliveries(client, [identity for identity, _ in fresh]) if repeated else {}
        arrivals = []
        for identity, fields in fresh:
            if not fields:
                self._owed.add(identity)
                continue
            self._open.add(identity)
            arrivals.append(self._arrival(identity, fields, deliveries.get(identity, 1)))
        return arrivals

    async def _deliveries(self, client: "Redis", identities: list[bytes]) -> dict[bytes, int]:
        """How often each has been delivered."""
        if not identities:
            return {}
        found: dict[bytes, int] = {}
        for identity in identities:
            pending: Any = await client.xpending_range(self._stream, self._group, identity, identity, 1)
            found |= {entry["message_id"]: entry["times_delivered"] for entry in pending}
        return found

    def _arrival(self, identity: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Arrival:
        name = identity.decode()
        size = sum(len(key) + len(value) for key, value in fields.items())
        unfit = None
        if size > MAX_MESSAGE:
            unfit = f"the message has {size:,} bytes, more than {MAX_MESSAGE:,}"
        elif deliveries > MAX_DELIVERIES:
            unfit = f"the message was delivered {deliveries} times and never kept"
        kept = {} if size > MAX_MESSAGE else {_text(key): _value(value) for key, value in fields.items()}
        data: dict[str, Json] = {"id": name, "stream": self._stream, "fields": kept}
        moment = datetime.fromtimestamp(int(name.partition("-")[0]) / 1000, UTC)
        event = Event(kind="queue", key=f"{self._stream} {name}", occurred_at=moment, data=data)

        async def acknowledge() -> None:
            self._open.discard(identity)
            self._owed.add(identity)
            self._room.set()
            if self._client is not None:
                await self._settle_debts(self._client)

        return Arrival(event=event, acknowledge=acknowledge, unfit=unfit)

    async def _settle_debts(self, client: "Redis") -> None:
        """Acknowledge what is kept. Where Redis can't be told now, it is told later."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - only queues need it

        owed = frozenset(self._owed)
        if not owed:
            return
        with contextlib.suppress(RedisError, OSError):
            await client.xack(self._stream, self._group, *owed)
            self._owed -= owed

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()


def _flat(messages: Iterable[Any]) -> list[Message]:
    """Messages as the protocol's versions give them: a list, or a list of lists."""
    flat: list[Message] = []
    for message in messages:
        if isinstance(message, list):
            flat += _flat(message)
        elif message[0] is not None:
            flat.append((message[0], message[1] or {}))
    return flat


def _text(content: bytes) -> str:
    return content.decode(errors="backslashreplace")


def _value(content: bytes) -> Json:
    """Text, or what isn't UTF-8 as ``{"base64": …}``."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
