"""The audit as JSON."""

import json
from collections.abc import Mapping

from engine.audit import AuditEntry
from engine.audit_format import canonical, read
from engine.audit_verdict import Checkpoint, Problem, Verdict
from flows.values import Json


def entry_document(entry: AuditEntry) -> dict[str, Json]:
    """An entry with its hash and its seal."""
    return {**json.loads(entry.text), "hash": entry.hash, "seal": entry.seal}


def entry_of(document: Mapping[str, Json]) -> AuditEntry:
    """The entry of a document. Raises ValueError, KeyError or TypeError where it is none."""
    kept = {name: value for name, value in document.items() if name not in {"hash", "seal"}}
    return read(canonical(kept).decode(), digest=document["hash"], seal=document["seal"])


def verdict_document(verdict: Verdict) -> dict[str, Json]:
    """What looking at a chain came to."""
    problem = verdict.problem
    return {
        "workspace": verdict.workspace,
        "entries": verdict.entries,
        "first": verdict.first,
        "last": verdict.last,
        "checkpoint": None if verdict.checkpoint is None else str(verdict.checkpoint),
        "problem": None if problem is None else vars(problem),
        "notes": list(verdict.notes),
    }


def verdict_of(document: Mapping[str, Json]) -> Verdict:
    """The same from its document."""
    checkpoint, problem = document["checkpoint"], document["problem"]
    return Verdict(
        workspace=document["workspace"],
        entries=document["entries"],
        first=document["first"],
        last=document["last"],
        checkpoint=None if checkpoint is None else Checkpoint.parse(checkpoint),
        problem=None if problem is None else Problem(**problem),
        notes=tuple(document["notes"]),
    )
