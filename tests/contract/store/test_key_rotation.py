# ruff: noqa: ASYNC240 - small files, in tests
"""The key of secrets is changed on both databases, whatever happens meanwhile, and wherever it comes from."""

import asyncio
import base64
import secrets as chance
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.secret_key import KeyFile, SealBrokenError, SecretKey, SecretKeyError
from engine.secret_key_sources import KeyCommand, KeyVariable
from engine.secrets import Secrets
from engine.store import Store
from flows.errors import InvalidCallError


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return tmp_path / "secret.key"


@pytest.fixture
async def filled(store: Store, key_path: Path) -> Secrets:
    secrets = Secrets(store.secrets, KeyFile(key_path))
    for number in range(5):
        await secrets.put("default", f"s{number}", f"value {number}")
    await secrets.rotate("default", "s0", "value 0, new", overlap=60)
    return secrets


async def values(secrets: Secrets) -> list[str]:
    return [(await secrets.values("default", f"s{number}"))[-1] for number in range(5)]


EXPECTED = [f"value {number}" for number in range(5)]


def written(*keys: SecretKey) -> str:
    return " ".join(base64.b64encode(key.material).decode() for key in keys)


async def test_every_value_is_encrypted_by_the_new_key(filled: Secrets, store: Store, key_path: Path) -> None:
    (old,) = KeyFile(key_path).known()
    rotation = await filled.rotate_key()
    (new,) = KeyFile(key_path).known()
    kept = key_path.with_name(f"secret.key.{old.id}")
    assert (rotation.key_id, rotation.resealed, rotation.kept) == (new.id, 6, (str(kept),))
    assert new != old
    assert KeyFile(kept).known() == (old,)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert await store.secrets.key_id() == new.id
    assert await values(filled) == EXPECTED
    assert await filled.values("default", "s0") == ["value 0, new", "value 0"]
    # With the old key nothing of this database can be read, as nothing of its old backups with the new one.
    with pytest.raises(SecretKeyError, match="another key"):
        await Secrets(store.secrets, KeyVariable(written(old))).value("default", "s1")


async def test_others_go_on_with_the_keys_that_they_had_read(filled: Secrets, store: Store, key_path: Path) -> None:
    another = Secrets(store.secrets, KeyFile(key_path))
    assert await values(another) == EXPECTED
    await filled.rotate_key()
    await another.put("default", "more", "set by who had the old key")
    assert await values(another) == EXPECTED
    assert await filled.value("default", "more") == "set by who had the old key"
    await another.rotate_key()
    assert await values(filled) == EXPECTED


async def test_values_set_while_the_key_is_changed_are_kept(filled: Secrets, store: Store, key_path: Path) -> None:
    async def set_many(own: Secrets, name: str) -> None:
        for number in range(10):
            await own.put("default", f"{name}{number}", f"{name} {number}")

    async def rotate() -> None:
        for _time in range(5):
            await filled.rotate_key()

    setters = [Secrets(store.secrets, KeyFile(key_path)) for _ in range(3)]
    await asyncio.gather(rotate(), *(set_many(own, f"m{place}_") for place, own in enumerate(setters)))
    fresh = Secrets(store.secrets, KeyFile(key_path))
    for place in range(3):
        for number in range(10):
            assert await fresh.value("default", f"m{place}_{number}") == f"m{place}_ {number}"


class PowerCutError(Exception):
    """Ends a rotation where the test wants it to."""


@pytest.mark.parametrize(
    "moment", ["before the new key is known", "before the database", "after it", "before the file"]
)
async def test_a_rotation_that_ends_at_any_moment_loses_nothing_and_goes_on(
    filled: Secrets, store: Store, key_path: Path, moment: str
) -> None:
    cut_short = Secrets(store.secrets, CutShort(key_path, moment))
    with pytest.raises(PowerCutError):
        await cut_short.rotate_key()
    for one in (filled, Secrets(store.secrets, KeyFile(key_path))):
        assert await values(one) == EXPECTED
        await one.put("default", "meanwhile", "set")
    rotation = await Secrets(store.secrets, KeyFile(key_path)).rotate_key()
    assert rotation.resealed == 7
    assert [key.id for key in KeyFile(key_path).known()] == [rotation.key_id]
    for one in (filled, Secrets(store.secrets, KeyFile(key_path))):
        assert await values(one) == EXPECTED
        assert await one.value("default", "meanwhile") == "set"


class CutShort(KeyFile):
    """A file of keys at which the power is cut."""

    def __init__(self, path: Path, moment: str) -> None:
        super().__init__(path)
        self._moment = moment
        self._added = False

    async def read(self) -> tuple[SecretKey, ...]:
        if self._added and self._moment == "before the database":
            raise PowerCutError
        return await super().read()

    async def add(self, known: tuple[SecretKey, ...]) -> SecretKey:
        if self._moment == "before the new key is known":
            raise PowerCutError
        self._added = True
        return await super().add(known)

    async def leave(self, key: SecretKey, known: tuple[SecretKey, ...]) -> tuple[Path, ...]:
        if self._moment == "before the file":
            for other in known:
                self._replace(self.path.with_name(f"{self.path.name}.{other.id}"), (other,))
        raise PowerCutError


KILLED = """
import asyncio, os, sys
from pathlib import Path
from engine.secret_key import KeyFile
from engine.secrets import Secrets
from engine.store import Store

async def main():
    async with await Store.open(sys.argv[1], files=Path(sys.argv[2])) as store:
        print("begun", flush=True)
        while True:
            await Secrets(store.secrets, KeyFile(Path(sys.argv[3]))).rotate_key()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_while_it_changes_keys_loses_nothing(
    filled: Secrets, store: Store, database_url: str, files: Path, key_path: Path
) -> None:
    for delay in (0.0, 0.004, 0.011, 0.023, 0.05):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", KILLED, database_url, str(files), str(key_path)), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        await asyncio.sleep(delay)
        process.kill()
        await process.wait()
        assert await values(filled) == EXPECTED
        assert await values(Secrets(store.secrets, KeyFile(key_path))) == EXPECTED


async def test_two_at_once_are_one_after_the_other(filled: Secrets, store: Store, key_path: Path) -> None:
    others = [Secrets(store.secrets, KeyFile(key_path)) for _ in range(4)]
    outcomes = await asyncio.gather(*(one.rotate_key() for one in others), return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert len(refused) < len(outcomes)
    assert all(isinstance(one, SecretKeyError) and "somebody else" in one.message for one in refused)
    assert await values(filled) == EXPECTED


async def test_a_value_that_can_not_be_decrypted_stops_it_and_nothing_is_changed(
    filled: Secrets, store: Store, key_path: Path
) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - only to spoil a row

    before = await store.secrets.key_id()
    spoil = "UPDATE secret_version SET sealed = (SELECT sealed FROM secret_version WHERE name = 's1') WHERE name = 's3'"
    await store._database.write(lambda connection: connection.execute(text(spoil)))
    with pytest.raises(SealBrokenError, match="'s3' of workspace 'default'"):
        await filled.rotate_key()
    assert await store.secrets.key_id() == before
    assert await filled.value("default", "s4") == "value 4"
    await filled.delete("default", "s3")
    assert (await filled.rotate_key()).resealed == 5


async def test_a_prepared_key_is_known_and_not_used(filled: Secrets, store: Store, key_path: Path) -> None:
    (old,) = KeyFile(key_path).known()
    prepared = await filled.rotate_key(prepare=True)
    assert prepared.resealed is None
    assert [key.id for key in KeyFile(key_path).known()] == [prepared.key_id, old.id]
    assert (await filled.rotate_key(prepare=True)).key_id == prepared.key_id
    await filled.put("default", "more", "value")
    assert await store.secrets.key_id() == old.id
    assert (await filled.rotate_key()).key_id == prepared.key_id


def variable(*keys: SecretKey) -> KeyVariable:
    return KeyVariable(written(*keys))


def command(*keys: SecretKey) -> KeyCommand:
    return KeyCommand(f"/bin/echo '{written(*keys)}'")


@pytest.mark.parametrize("source", [variable, command])
async def test_a_key_from_elsewhere_is_changed_by_giving_both(
    store: Store, source: Callable[..., KeyVariable | KeyCommand]
) -> None:
    old, new = (SecretKey(material=chance.token_bytes(32)) for _ in range(2))
    first = Secrets(store.secrets, source(old))
    await first.put("default", "a", "the value")
    with pytest.raises(SecretKeyError, match="the first key of") as refused:
        await first.rotate_key()
    assert refused.value.fix is not None
    assert "the new one first" in refused.value.fix
    both = Secrets(store.secrets, source(new, old))
    await both.put("default", "b", "another")
    assert await store.secrets.key_id() == old.id
    rotation = await both.rotate_key()
    assert (rotation.key_id, rotation.resealed, rotation.kept) == (new.id, 2, ())
    assert await Secrets(store.secrets, source(new)).value("default", "a") == "the value"
    with pytest.raises(SecretKeyError, match="another key"):
        await first.put("default", "c", "x")
    with pytest.raises(SecretKeyError, match="the first key of"):
        await both.rotate_key()


async def test_there_must_be_something_to_encrypt(store: Store, key_path: Path) -> None:
    with pytest.raises(InvalidCallError, match="no secrets yet"):
        await Secrets(store.secrets, KeyFile(key_path)).rotate_key()
    assert not key_path.exists()


async def test_an_old_value_ends_by_itself_and_the_one_before_it_at_once(store: Store, key_path: Path) -> None:
    secrets = Secrets(store.secrets, KeyFile(key_path))
    await secrets.put("default", "a", "first")
    assert (await secrets.rotate("default", "a", "second", overlap=3600)).old_until is not None
    assert await secrets.values("default", "a") == ["second", "first"]
    third = await secrets.rotate("default", "a", "third", overlap=0.05)
    assert third.versions == 2
    async with asyncio.timeout(20):
        while await secrets.values("default", "a") != ["third"]:  # noqa: ASYNC110 - a time comes, no event
            await asyncio.sleep(0.01)
    (listed,) = await secrets.list("default")
    assert (listed.versions, listed.old_until) == (1, None)
    with pytest.raises(InvalidCallError, match="this value already"):
        await secrets.rotate("default", "a", "third", overlap=60)
    with pytest.raises(InvalidCallError, match="no secret 'b'"):
        await secrets.rotate("default", "b", "x", overlap=60)
