r"""How entries of the audit are written down, hashed and sealed, so that others can check them (``docs/audit.md``).

An entry's text is its canonical JSON by RFC 8785. It names the hash of the entry before it and its number, so that
none can be changed, moved or left out without all that follow. Anybody can check that. The *seal* of each hash is
keyed: who doesn't have the key can't make another chain, or another entry at its end.

    hash = SHA-256("stepbox audit entry 1\n" + text)
    seal = HMAC-SHA-256(key, "stepbox audit seal 1\n" + hash as 64 hexadecimal digits)
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine.audit import Act, Actor, AuditEntry, Target
from flows.values import Json

FORMAT: Final = 1
BEGINNING: Final = "0" * 64
"""What the first entry of a chain names as the hash before it."""
LARGEST: Final = 32_000
"""Bytes of an entry; a larger one keeps the hash of its details. A step that ran takes 200."""
LONGEST: Final = 1000
"""Characters of one text in them."""
MOST: Final = 200
"""Elements of one list in them."""

_ENTRY: Final = b"stepbox audit entry 1\n"
_SEAL: Final = b"stepbox audit seal 1\n"
_DEEPEST: Final = 8


def compose(act: Act, *, number: int, at: datetime, previous: str, key: bytes, key_id: str) -> AuditEntry:
    """An act as the entry of that number, after the one whose hash is ``previous``."""
    entry: dict[str, Json] = {
        "format": FORMAT,
        "workspace": act.workspace,
        "number": number,
        "at": written(at),
        "actor": {name: _bounded(value) for name, value in vars(act.actor).items() if value is not None},
        "action": act.action,
        "target": None if act.target is None else {"kind": act.target.kind, "id": _bounded(act.target.id)},
        "run": act.run,
        "outcome": act.outcome,
        "details": _bounded(act.details),
        "previous": previous,
        "key": key_id,
    }
    text = canonical(entry)
    if len(text) > LARGEST:
        entry["details"] = {"left_out": len(text), "sha256": hashlib.sha256(canonical(entry["details"])).hexdigest()}
        text = canonical(entry)
    digest = digest_of(text)
    return AuditEntry(
        number=number,
        at=at,
        act=act,
        previous=previous,
        key=key_id,
        text=text.decode(),
        hash=digest,
        seal=seal_of(digest, key),
    )


def read(text: str, *, digest: str, seal: str) -> AuditEntry:
    """An entry by its text. Raises ValueError, KeyError or TypeError where it is none."""
    entry = json.loads(text)
    target, actor = entry["target"], entry["actor"]
    act = Act(
        workspace=entry["workspace"],
        actor=Actor(**actor),
        action=entry["action"],
        target=None if target is None else Target(**target),
        run=entry["run"],
        outcome=entry["outcome"],
        details=entry["details"],
    )
    at = datetime.fromisoformat(entry["at"])
    return AuditEntry(
        number=entry["number"],
        at=at,
        act=act,
        previous=entry["previous"],
        key=entry["key"],
        text=text,
        hash=digest,
        seal=seal,
    )


def canonical(value: Json) -> bytes:
    """The one JSON text of a value by RFC 8785.

    The standard library writes it: its texts, integers and literals are those of the RFC, there are no fractions in
    entries, and their keys are ASCII, whose order is the RFC's. (A test compares with the package ``rfc8785``, which
    takes seven times as long.)
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def digest_of(text: bytes) -> str:
    """The hash of an entry's text."""
    return hashlib.sha256(_ENTRY + text).hexdigest()


def seal_of(digest: str, key: bytes) -> str:
    """The seal of a hash."""
    return hmac.digest(key, _SEAL + digest.encode("utf-8", "replace"), "sha256").hex()


def key_id_of(key: bytes) -> str:
    """What tells a key from others and says nothing about it."""
    return hashlib.sha256(b"stepbox audit key id\n" + key).hexdigest()[:16]


def written(at: datetime) -> str:
    """A time as entries have it: in UTC, with all six digits of its microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _bounded(value: Any, depth: int = 0) -> Any:
    """JSON that any parser reads back as it was, and nothing in it longer than is useful."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # Others write one in other ways.
        return repr(value)
    if isinstance(value, str):
        text = value if len(value) <= LONGEST else value[:LONGEST] + "…"
        return text.encode("utf-8", "replace").decode() if not text.isascii() else text
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(name): _bounded(one, depth + 1) for name, one in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        items = list(value) if isinstance(value, Sequence) else sorted(value)
        kept = [_bounded(one, depth + 1) for one in items[:MOST]]
        return kept if len(items) <= MOST else [*kept, {"left_out": len(items) - MOST}]
    raise TypeError(f"{type(value).__name__} is nothing that an entry of the audit holds")
