"""The key that secrets are encrypted by, and its file."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.secret_key import KeyFile, SealBrokenError, SecretKey, SecretKeyError, SecretKeyExposedError

KEY = SecretKey(material=bytes(range(32)))
PLACE = ("default", "hook_key", "01J")


@given(st.binary(max_size=2000), st.lists(st.text(), max_size=4).map(tuple))
def test_what_is_sealed_comes_back(content: bytes, place: tuple[str, ...]) -> None:
    try:
        sealed = KEY.seal(content, bound_to=place)
    except UnicodeEncodeError:
        return
    assert KEY.unseal(sealed, bound_to=place) == content
    assert not content or content not in sealed or len(content) < 4


def test_nothing_is_sealed_twice_alike() -> None:
    assert len({KEY.seal(b"x", bound_to=PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "place", [("default", "hook_ke", "y01J"), ("defaulthook_key", "", "01J"), PLACE[:2], (*PLACE, ""), ()]
)
def test_another_place_is_found_out(place: tuple[str, ...]) -> None:
    with pytest.raises(SealBrokenError):
        KEY.unseal(KEY.seal(b"x", bound_to=PLACE), bound_to=place)


@given(st.data())
def test_any_change_is_found_out(data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(b"a secret", bound_to=PLACE))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBrokenError):
        KEY.unseal(bytes(sealed), bound_to=PLACE)


@given(st.binary(max_size=40))
def test_what_was_never_sealed_is_refused(sealed: bytes) -> None:
    with pytest.raises(SealBrokenError):
        KEY.unseal(sealed, bound_to=PLACE)


def test_another_key_is_found_out_and_has_another_id() -> None:
    other = SecretKey(material=bytes(32))
    assert other.id != KEY.id
    with pytest.raises(SealBrokenError):
        other.unseal(KEY.seal(b"x", bound_to=PLACE), bound_to=PLACE)


def test_a_key_does_not_show_itself() -> None:
    assert "\\x01" not in repr(KEY)
    assert KEY.material.hex()[:8] not in repr(KEY)


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secret.key")
    assert file.known() == ()
    old = os.umask(0)
    try:
        key = file.create()
    finally:
        os.umask(old)
    assert file.known() == (key,)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_that_is_there_is_taken_and_not_replaced(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secret.key")
    key = file.create()
    assert file.create() == key
    assert file.known() == (key,)


def create(path: Path) -> str:
    return KeyFile(path).create().id


def test_processes_that_make_a_key_at_once_have_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        ids = pool.map(create, [tmp_path / "secret.key"] * 16)
    assert len(set(ids)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = KeyFile(tmp_path / "secret.key")
    file.create()
    file.path.chmod(mode)
    with pytest.raises(SecretKeyExposedError, match=f"mode {mode:o}") as caught:
        file.known()
    assert caught.value.fix is not None
    assert f"chmod 600 {file.path}" in caught.value.fix
    file.path.chmod(0o400)
    assert len(file.known()) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"not base64!", b"AAAA", b"A" * 44, bytes(32), b"QUFB" * 2000])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretKeyError, match="holds no key"):
        KeyFile(path).known()


def test_what_can_not_be_read_or_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(SecretKeyError, match=r"secret\.key"):
        KeyFile(tmp_path / "secret.key").known()
    with pytest.raises(SecretKeyError, match="can't write the key"):
        KeyFile(tmp_path / "none" / "secret.key").create()
