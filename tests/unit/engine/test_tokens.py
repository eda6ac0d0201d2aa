"""A token is hashed once a process, and its record read each time; what isn't known isn't hashed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine import tokens
from engine.principals import GrantPatterns, PrincipalRecord, TokenScope
from engine.store import Store
from engine.tokens import PRESET, Authenticator, UnauthenticatedError, first_admin, id_of, issue


@dataclass
class Counted:
    """Counts what is hashed."""

    hashed: list[str] = field(default_factory=list)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(f"sqlite:///{tmp_path}/test.db") as opened:
        yield opened


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted, verify = Counted(), tokens._verify

    def count(digest: str, text: str) -> bool:
        counted.hashed.append(text)
        return verify(digest, text)

    monkeypatch.setattr(tokens, "_verify", count)
    return counted


async def principal(store: Store, name: str = "ci") -> PrincipalRecord:
    everything = GrantPatterns(tools=["*"], flows=["*"])
    return await store.principals.create(name, kind="service", role="editor", grants=everything, by="test")


async def test_many_requests_at_once_cost_one_hash(store: Store, counted: Counted) -> None:
    issued = await issue(store, await principal(store))
    authenticator = Authenticator(store)
    principals = await asyncio.gather(*(authenticator.authenticate(issued.text) for _ in range(20)))
    assert {(one.name, one.workspace, one.token) for one in principals} == {("ci", "default", issued.record.id)}
    assert counted.hashed == [issued.text]


async def test_what_is_kept_opens_nothing(store: Store) -> None:
    issued = await issue(store, await principal(store))
    assert issued.text not in repr(issued.record)
    for text in (issued.record.digest, issued.record.id, f"stp_{issued.record.id}_{'x' * 43}"):
        with pytest.raises(UnauthenticatedError):
            await Authenticator(store).authenticate(text)


async def test_strangers_cost_no_hash(store: Store, counted: Counted) -> None:
    await issue(store, await principal(store))
    for text in ("", "x", "stp_abcdefghijkl_" + "x" * 43, "\udcff"):
        with pytest.raises(UnauthenticatedError):
            await Authenticator(store).authenticate(text)
    assert counted.hashed == []


async def test_a_revoked_and_a_replaced_token_are_not_remembered(store: Store) -> None:
    first = await issue(store, await first_admin(store), preset="p" * 40)
    assert (first.record.id, id_of("p" * 40)) == (PRESET, PRESET)
    authenticator = Authenticator(store)
    await authenticator.authenticate("p" * 40)
    await issue(store, await first_admin(store), preset="q" * 40)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate("p" * 40)
    await authenticator.authenticate("q" * 40)
    await store.tokens.revoke(PRESET)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate("q" * 40)


async def test_only_so_many_are_remembered(store: Store, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 1)
    ci = await principal(store)
    first, second = [await issue(store, ci) for _ in range(2)]
    authenticator = Authenticator(store)
    for issued in (first, second, first):
        await authenticator.authenticate(issued.text)
    assert counted.hashed == [first.text, second.text, first.text]


async def test_whoever_holds_a_token_that_opens_nothing_any_more_learns_why(store: Store) -> None:
    ci, authenticator = await principal(store), Authenticator(store)
    past = TokenScope(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked, expired, good = await issue(store, ci), await issue(store, ci, past), await issue(store, ci)
    await store.tokens.revoke(revoked.record.id)
    for issued, why in ((revoked, "was revoked at"), (expired, "has expired at")):
        with pytest.raises(UnauthenticatedError, match=why):
            await authenticator.authenticate(issued.text)
        # A stranger, who knows the id only, does not.
        with pytest.raises(UnauthenticatedError, match="the token is not valid"):
            await authenticator.authenticate(f"stp_{issued.record.id}_{'x' * 43}")
    await authenticator.authenticate(good.text)
    await store.principals.enable("ci", enabled=False)
    with pytest.raises(UnauthenticatedError, match="'ci', whose token this is, may not act any more"):
        await authenticator.authenticate(good.text)
    await store.principals.enable("ci", enabled=True)
    assert (await authenticator.authenticate(good.text)).name == "ci"
    await store.principals.delete("ci")
    with pytest.raises(UnauthenticatedError, match="was revoked"):
        await authenticator.authenticate(good.text)


async def test_the_first_admin_is_made_once_and_another_one_takes_its_place(store: Store) -> None:
    assert (await first_admin(store)).id == (await first_admin(store)).id
    await principal(store, "ann")
    await store.principals.set_role("ann", "admin")
    assert (await first_admin(store)).name == "admin"
    await store.principals.delete("admin")
    assert (await first_admin(store)).name == "ann"
