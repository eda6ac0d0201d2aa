"""A token is hashed once a process, and its record read each time; what isn't known isn't hashed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine import tokens
from engine.store import Store
from engine.tokens import PRESET, Authenticator, UnauthenticatedError, id_of, issue


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


async def test_many_requests_at_once_cost_one_hash(store: Store, counted: Counted) -> None:
    issued = await issue(store, principal="ci", workspace="default")
    authenticator = Authenticator(store)
    principals = await asyncio.gather(*(authenticator.authenticate(issued.text) for _ in range(20)))
    assert {(one.name, one.workspace, one.token) for one in principals} == {("ci", "default", issued.record.id)}
    assert counted.hashed == [issued.text]


async def test_what_is_kept_opens_nothing(store: Store) -> None:
    issued = await issue(store, principal="ci", workspace="default")
    assert issued.text not in repr(issued.record)
    for text in (issued.record.digest, issued.record.id, f"stp_{issued.record.id}_{'x' * 43}"):
        with pytest.raises(UnauthenticatedError):
            await Authenticator(store).authenticate(text)


async def test_strangers_cost_no_hash(store: Store, counted: Counted) -> None:
    await issue(store, principal="ci", workspace="default")
    for text in ("", "x", "stp_abcdefghijkl_" + "x" * 43, "\udcff"):
        with pytest.raises(UnauthenticatedError):
            await Authenticator(store).authenticate(text)
    assert counted.hashed == []


async def test_a_revoked_and_a_replaced_token_are_not_remembered(store: Store) -> None:
    first = await issue(store, principal="admin", workspace="default", preset="p" * 40)
    assert (first.record.id, id_of("p" * 40)) == (PRESET, PRESET)
    authenticator = Authenticator(store)
    await authenticator.authenticate("p" * 40)
    await issue(store, principal="admin", workspace="default", preset="q" * 40)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate("p" * 40)
    await authenticator.authenticate("q" * 40)
    await store.tokens.revoke(PRESET)
    with pytest.raises(UnauthenticatedError):
        await authenticator.authenticate("q" * 40)


async def test_only_so_many_are_remembered(store: Store, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 1)
    first, second = [await issue(store, principal="ci", workspace="default") for _ in range(2)]
    authenticator = Authenticator(store)
    for issued in (first, second, first):
        await authenticator.authenticate(issued.text)
    assert counted.hashed == [first.text, second.text, first.text]
