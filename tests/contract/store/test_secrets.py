# ruff: noqa: ASYNC240 - small files, in tests
"""Secrets, as both databases keep them: encrypted, bound to their place, with two live values while one is changed."""

import asyncio
import itertools
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from engine.secret_key import KeyFile, SealBrokenError, SecretKeyError
from engine.secrets import MAX_SECRET, InvalidSecretNameError, Secrets, UnknownSecretError
from engine.store import Store
from flows.errors import InvalidCallError

VALUE = "hunter2-£-value"


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


@pytest.fixture
def secrets(store: Store, key_path: Path) -> Secrets:
    return Secrets(store.secrets, KeyFile(key_path))


async def everything(store: Store) -> str:
    """All that the tables of secrets hold, as text."""

    def read(connection: Connection) -> list[Any]:
        tables = ("secret", "secret_version")
        return [row for table in tables for row in connection.execute(text(f"SELECT * FROM {table}"))]

    found = await store._database.read(read)
    return repr([tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row) for row in found])


async def test_a_secret_comes_back_and_is_nowhere_in_clear_text(
    secrets: Secrets, store: Store, key_path: Path, tmp_path: Path
) -> None:
    summary = await secrets.put("default", "hook_key", VALUE)
    assert (summary.name, summary.versions, summary.last_used_at) == ("hook_key", 1, None)
    assert await secrets.value("default", "hook_key") == VALUE
    assert VALUE not in await everything(store)
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or VALUE.encode() not in path.read_bytes()
    # Another process, which reads the key.
    assert await Secrets(store.secrets, KeyFile(key_path)).values("default", "hook_key") == [VALUE]


async def test_a_new_value_takes_the_place_of_the_old_one(secrets: Secrets) -> None:
    first = await secrets.put("default", "a", "1")
    second = await secrets.put("default", "a", "2")
    assert await secrets.values("default", "a") == ["2"]
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


async def test_two_values_are_live_while_a_secret_is_changed(secrets: Secrets) -> None:
    await secrets.put("default", "a", "1")
    await secrets.rotate("default", "a", "2", overlap=60)
    assert (await secrets.rotate("default", "a", "3", overlap=60)).versions == 2
    assert await secrets.values("default", "a") == ["3", "2"]
    assert await secrets.delete("default", "a", old_only=True) == 1
    assert await secrets.values("default", "a") == ["3"]
    assert await secrets.delete("default", "a", old_only=True) == 0
    await secrets.put("default", "a", "4")
    assert await secrets.values("default", "a") == ["4"]


async def test_a_deleted_secret_is_gone(secrets: Secrets, store: Store) -> None:
    await secrets.put("default", "hook_key", "1")
    await secrets.rotate("default", "hook_key", "2", overlap=60)
    assert await secrets.delete("default", "hook_key") == 2
    assert await everything(store) == "[]"
    with pytest.raises(UnknownSecretError):
        await secrets.values("default", "hook_key")
    with pytest.raises(UnknownSecretError):
        await secrets.delete("default", "hook_key")


async def test_an_unknown_secret_has_the_closest(secrets: Secrets) -> None:
    await secrets.put("default", "hook_key", "1")
    with pytest.raises(UnknownSecretError) as caught:
        await secrets.value("default", "hook_kye")
    assert caught.value.fix == "set it: stepbox secrets set hook_kye; or did you mean `hook_key`?"


async def test_secrets_are_listed_by_name_without_their_values(secrets: Secrets) -> None:
    for name in ("b", "a", "c"):
        await secrets.put("default", name, VALUE)
    await secrets.value("default", "b")
    listed = await secrets.list("default")
    assert [secret.name for secret in listed] == ["a", "b", "c"]
    assert [secret.last_used_at is not None for secret in listed] == [False, True, False]
    assert VALUE not in repr(listed)


async def test_a_use_is_written_once_a_minute(secrets: Secrets) -> None:
    await secrets.put("default", "a", VALUE)
    await secrets.value("default", "a")
    (first,) = await secrets.list("default")
    for _ in range(3):
        await secrets.value("default", "a")
    assert list(await secrets.list("default")) == [first]


@pytest.mark.parametrize("name", ["", "Hook", "1a", "a-b", "a b", "a" * 65, "for", "ä", "a\n", "../a"])
async def test_a_name_that_is_none_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidSecretNameError):
        await secrets.put("default", name, VALUE)


@pytest.mark.parametrize("value", ["", "x" * (MAX_SECRET + 1)])
async def test_a_value_that_is_none_is_refused(secrets: Secrets, value: str) -> None:
    with pytest.raises(InvalidCallError):
        await secrets.put("default", "a", value)


@pytest.mark.parametrize("value", ["x", "\n", "x" * MAX_SECRET, "\x00\x01", "é😀", "-----BEGIN KEY-----\nabc\n"])
async def test_any_text_is_a_value(secrets: Secrets, value: str) -> None:
    await secrets.put("default", "a", value)
    assert await secrets.value("default", "a") == value


async def tampered(store: Store, statement: str) -> None:
    await store._database.write(lambda connection: connection.execute(text(statement)))


async def test_rows_that_are_swapped_are_found_out(secrets: Secrets, store: Store) -> None:
    await secrets.put("default", "strong", "s3cret")
    await secrets.put("default", "weak", "known to the attacker")
    await tampered(
        store,
        "UPDATE secret_version SET sealed = (SELECT sealed FROM secret_version WHERE name = 'weak') WHERE name = 'strong'",
    )
    with pytest.raises(SealBrokenError, match="'strong' of workspace 'default' can't be decrypted"):
        await secrets.value("default", "strong")
    assert await secrets.value("default", "weak") == "known to the attacker"


async def test_a_row_that_is_moved_with_its_id_is_found_out(secrets: Secrets, store: Store) -> None:
    await secrets.put("default", "strong", "s3cret")
    await secrets.put("default", "weak", "known")
    await tampered(store, "DELETE FROM secret_version WHERE name = 'strong'")
    await tampered(store, "UPDATE secret_version SET name = 'strong' WHERE name = 'weak'")
    with pytest.raises(SealBrokenError):
        await secrets.value("default", "strong")


async def test_a_row_of_another_workspace_is_found_out(secrets: Secrets, store: Store) -> None:
    await tampered(store, "INSERT INTO workspace (id, created_at) SELECT 'other', created_at FROM workspace")
    await secrets.put("default", "a", "one")
    await secrets.put("other", "a", "another")
    assert await secrets.value("other", "a") == "another"
    await tampered(store, "DELETE FROM secret_version WHERE workspace = 'default'")
    await tampered(store, "UPDATE secret_version SET workspace = 'default' WHERE workspace = 'other'")
    with pytest.raises(SealBrokenError):
        await secrets.value("default", "a")


async def test_without_its_key_nothing_is_decrypted_or_made_anew(
    secrets: Secrets, store: Store, key_path: Path
) -> None:
    await secrets.put("default", "a", VALUE)
    kept = key_path.read_bytes()
    key_path.unlink()
    fresh = Secrets(store.secrets, KeyFile(key_path))
    with pytest.raises(SecretKeyError, match="is missing"):
        await fresh.value("default", "a")
    with pytest.raises(SecretKeyError, match="is missing"):
        await fresh.put("default", "b", VALUE)
    assert not key_path.exists()
    KeyFile(key_path).create()
    for use in (fresh.value("default", "a"), fresh.put("default", "b", VALUE)):
        with pytest.raises(SecretKeyError, match="another key"):
            await use
    key_path.write_bytes(kept)
    assert await Secrets(store.secrets, KeyFile(key_path)).value("default", "a") == VALUE


async def test_a_lost_key_can_be_left_behind(secrets: Secrets, store: Store, key_path: Path) -> None:
    await secrets.put("default", "a", VALUE)
    key_path.unlink()
    fresh = Secrets(store.secrets, KeyFile(key_path))
    assert await fresh.delete("default", "a") == 1
    await fresh.put("default", "a", "new")
    assert await fresh.value("default", "a") == "new"


async def test_values_set_at_once_are_all_kept_in_some_order(secrets: Secrets) -> None:
    await secrets.put("default", "a", "first")
    await asyncio.gather(*(secrets.rotate("default", "a", str(number), overlap=60) for number in range(10)))
    live = await secrets.values("default", "a")
    assert len(live) == len(set(live)) == 2
    others = itertools.repeat("default", 2)
    assert [await secrets.value(workspace, "a") for workspace in others] == [live[0]] * 2
