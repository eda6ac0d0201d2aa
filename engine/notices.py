"""Telling people of what runs ask them: notices from the outbox to the addresses that secrets hold, by apprise.

At least once: where a service dies between sending a notice and recording that, it is sent again.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import StringIO
from typing import Final, Protocol

from engine.deciders import deciders, names
from engine.links import SignedLink
from engine.questions import Approval, Notice
from engine.store import Store
from flows.contracts import OwnApprovals
from flows.errors import StepboxError

_log = logging.getLogger(__name__)

LOOK: Final = 2.0
"""Seconds between two looks for notices that are due."""
CLAIM: Final = 120.0
"""Seconds for which a notice is one service's: apprise gives up on an address after some 8."""
AT_ONCE: Final = 20
"""Notices of one look."""
AGAIN: Final = (10.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0, 43200.0)
"""Seconds until the next try, after each that failed: a day in all."""
MOST_DETAILS: Final = 3000
"""Characters of what will happen; all of it is behind the link."""
MOST_LINKS: Final = 20
"""Links of one notice."""

_PART: Final = re.compile(r"[^\s:/?#@&=]{4,}")


class Rules(Protocol):
    """What the installation and its workspaces say of approvals: :class:`engine.approval_rules.ApprovalRules`."""

    async def own_approvals(self, workspace: str) -> OwnApprovals | None:
        """What a workspace says of requesters who decide what they asked for."""

    async def notified(self, workspace: str) -> Sequence[str]:
        """Names of the secrets with the addresses that are told of each approval."""

    @property
    def has_links(self) -> bool:
        """Whether links can be made."""

    async def link_to(self, asked: Approval, principal: str, *, until: datetime | None = None) -> SignedLink:
        """A link by which a principal decides a question."""


class Outbox:
    """Sends what is due. ``secrets`` gives the values of a workspace's secret, the newest first."""

    def __init__(self, store: Store, rules: Rules, secrets: Callable[[str, str], Awaitable[Sequence[str]]]) -> None:
        self._store = store
        self._rules = rules
        self._secrets = secrets

    async def run(self) -> None:
        """Send until cancelled, whatever fails meanwhile."""
        while True:
            try:
                await self.send_due()
            except StepboxError as problem:
                _log.warning("notices of approvals can't be sent now: %s", problem.message)
            except Exception:  # noqa: BLE001 - whatever it is, the next look may go well
                _log.exception("notices of approvals can't be sent now")
            await asyncio.sleep(LOOK)

    async def send_due(self) -> int:
        """Settle who is told of new questions, and send what is due; how many notices were tried."""
        for asked in await self._store.notices.unannounced():
            wanted: tuple[str, ...] = ()
            if asked.decision is None:
                wanted = (*asked.notify, *await self._rules.notified(asked.workspace))
            await self._store.notices.announce(asked.id, list(dict.fromkeys(wanted)))
        claimed = await self._store.notices.claim(seconds=CLAIM, limit=AT_ONCE)
        for notice in claimed:
            await self._try(notice)
        return len(claimed)

    async def _try(self, notice: Notice) -> None:
        asked = await self._store.approvals.get(notice.approval_id)
        if asked is None or asked.decision is not None:
            await self._store.notices.drop(notice.id)
            return
        error = await self._send(asked, notice.target)
        if error is None:
            await self._store.notices.sent(notice.id)
            return
        again = AGAIN[notice.attempts] if notice.attempts < len(AGAIN) else None
        _log.warning("a notice was not delivered", extra={"approval": asked.id, "to": notice.target, "error": error})
        await self._store.notices.failed(notice.id, error, again=again)

    async def _send(self, asked: Approval, target: str) -> str | None:
        """Send a notice to an address; why it didn't arrive, None where it did."""
        try:
            address = (await self._secrets(asked.workspace, target))[0]
            text = await self._text(asked)
            return await asyncio.to_thread(deliver, address, f"Approval: {asked.message}"[:200], text)
        except StepboxError as problem:
            return problem.message
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is why the notice did not arrive
            # Of apprise, or of one of its hundred services.
            _log.exception("a notice could not be sent", extra={"approval": asked.id, "to": target})
            return f"sending it failed: {type(problem).__name__}"

    async def _text(self, asked: Approval) -> str:
        own = await self._rules.own_approvals(asked.workspace)
        links: dict[str, str] = {}
        if self._rules.has_links:
            principals = await self._store.principals.roles(asked.workspace, flow=asked.flow)
            for one in deciders(asked, principals, own=own):
                if len(links) == MOST_LINKS:
                    break
                links[one.name] = (await self._rules.link_to(asked, one.name)).url
        return text_of(asked, links)


def text_of(asked: Approval, links: Mapping[str, str]) -> str:
    """What a notice says: what will happen, who asks, until when, and how to decide. ``links`` are by principal."""
    lines = [asked.message, ""]
    lines.append(f"Flow {asked.flow}" + (f", step {asked.label}, run {asked.run_id}" if asked.run_id else ""))
    if asked.requesters:
        lines.append(f"Asked for: {', '.join(asked.requesters)}")
    lines.append(f"To decide: {names(asked.approvers)}")
    if asked.expires_at is not None:
        lines.append(f"Until {asked.expires_at:%Y-%m-%d %H:%M} UTC")
    if asked.details is not None:
        shown = json.dumps(asked.details, ensure_ascii=False, indent=2)
        cut = "" if len(shown) <= MOST_DETAILS else "\n… all of it: see the command below"
        lines += ["", "What will happen:", shown[:MOST_DETAILS] + cut]
    lines.append("")
    lines += [f"{name}: {url}" for name, url in links.items()]
    lines.append(f"stepbox approvals show {asked.id}")
    return "\n".join(lines)


def deliver(address: str, title: str, body: str) -> str | None:
    """Send a message to an apprise URL; why it didn't arrive, None where it did. Blocks for some seconds at most."""
    import apprise  # noqa: PLC0415 - a hundred services, which only whoever sends needs

    messenger = apprise.Apprise()
    if not messenger.add(address):
        return "the secret holds no URL that apprise knows"
    with _said() as said:
        arrived = messenger.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
    if arrived:
        return None
    return _without(address, said.getvalue().strip().replace("\n", "; ")[:500]) or "it was not delivered"


@contextmanager
def _said() -> Iterator[StringIO]:
    """What apprise says of a failure, which is all that it tells."""
    log, text = logging.getLogger("apprise"), StringIO()
    handler = logging.StreamHandler(text)
    handler.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield text
    finally:
        log.removeHandler(handler)


def _without(address: str, text: str) -> str:
    """A text without any part of an address, which may hold a credential."""
    for part in sorted(_PART.findall(address.partition("://")[2]), key=len, reverse=True):
        text = text.replace(part, "***")
    return text
