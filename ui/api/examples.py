"""Examples of requests and answers for the OpenAPI document, by their schemas, which a test holds them to."""

from collections.abc import Mapping
from typing import Final

from flows.values import Json
from ui.api.models import APPROVAL_ID, ARTIFACT_ID, EVENT_ID, FLOW_TEXT, RUN_ID

_CAME, _BEGAN, _ENDED = "2026-03-01T09:30:00Z", "2026-03-01T09:30:00.012Z", "2026-03-01T09:30:00.061Z"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

_RUN: Final[dict[str, Json]] = {
    "run_id": RUN_ID,
    "flow": "greet",
    "status": "succeeded",
    "principal": "ci",
    "trigger": {"kind": "api", "principal": "ci"},
    "error": None,
    "parent_id": None,
    "created_at": _CAME,
    "started_at": _BEGAN,
    "ended_at": _ENDED,
    "duration_ms": 49.2,
    "abandoned": False,
}
_STEP: Final[dict[str, Json]] = {
    "status": "succeeded",
    "result": "hello world",
    "error": None,
    "attempts": 1,
    "isolation": "jail",
    "duration_ms": 8.4,
    "tool_calls": 0,
    "egress": 0,
    "artifacts": [],
}
_AT: Final[dict[str, Json]] = {"step": "hello", "item": None, "attempt": 1}
_VERSION: Final[dict[str, Json]] = {
    "flow": "greet",
    "version": 3,
    "digest": _DIGEST,
    "created_at": _CAME,
    "text": FLOW_TEXT,
    "files": {},
}
_ARTIFACT: Final[dict[str, Json]] = {
    **_AT,
    "name": "hello/report.csv",
    "path": "report.csv",
    "size": 5120,
    "sha256": _DIGEST,
    "media_type": "text/csv",
    "id": ARTIFACT_ID,
    "superseded": False,
    "created_at": _ENDED,
}
_APPROVAL: Final[dict[str, Json]] = {
    "id": APPROVAL_ID,
    "kind": "step",
    "flow": "greet",
    "run_id": RUN_ID,
    "step": "ask",
    "item": None,
    "message": "Release 1.4?",
    "details": {"version": "1.4"},
    "form": None,
    "approvers": [],
    "own": None,
    "requesters": ["ci"],
    "requested_at": _CAME,
    "expires_at": None,
    "on_timeout": "fail",
    "decision": None,
    "decided_at": None,
    "by": None,
    "via": None,
    "comment": None,
    "values": None,
    "revoked_at": None,
    "revoked_by": None,
}
_DECIDED: Final[dict[str, Json]] = {
    **_APPROVAL,
    "decision": "approved",
    "decided_at": _ENDED,
    "by": "ann",
    "via": "token",
    "comment": "looks good",
    "resumes": RUN_ID,
}
_DELIVERY: Final[dict[str, Json]] = {
    "id": "01K6ZQ8C4D6E8F0G2H4J6K8M0P",
    "event": EVENT_ID,
    "flow": "greet",
    "trigger": "created",
    "status": "started",
    "reason": None,
    "error": None,
    "run": RUN_ID,
    "attempts": 0,
    "due_at": None,
    "created_at": _CAME,
    "ended_at": _BEGAN,
}
_TOKEN: Final[dict[str, Json]] = {
    "token_id": "k3j9x0q2m5zt",
    "name": "ci",
    "role": "admin",
    "workspace": "default",
    "scopes": ["runs.*", "flows.read"],
    "only_flows": ["reports_*"],
    "created_at": _CAME,
    "expires_at": "2030-01-01T00:00:00Z",
    "revoked_at": None,
    "disabled_at": None,
    "last_used_at": None,
}
_GRANTS: Final[dict[str, Json]] = {"tools": ["workspace.*"], "flows": ["reports_*"]}
_WORKSPACE: Final[dict[str, Json]] = {"name": "ops", "created_at": _CAME}

_CHECKPOINT: Final = f"default:120:{_DIGEST}"
_ENTRY: Final[dict[str, Json]] = {
    "format": 1,
    "workspace": "default",
    "number": 120,
    "at": _CAME,
    "actor": {"name": "ann", "kind": "token", "token": "k3j9x0q2m5zt", "door": "api", "address": "192.0.2.7"},
    "action": "secret.set",
    "target": {"kind": "secret", "id": "hook_key"},
    "run": None,
    "outcome": "succeeded",
    "details": {"values": 1},
    "previous": "0" * 64,
    "key": "b7b7c475d0726bb9",
    "hash": _DIGEST,
    "seal": _DIGEST,
}

_POLICY: Final[dict[str, Json]] = {
    "workspace": "default",
    "number": 2,
    "policy": {"limits": {"memory": "1GB"}, "networks": ["none", "allow"]},
    "set_by": "ann",
    "set_at": _CAME,
}

_APPLIED: Final[dict[str, Json]] = {"flow": "greet", "digest": _DIGEST, "diff": "", "approval": None}

EXAMPLES: Final[Mapping[str, Json]] = {
    "FlowIn": {"text": FLOW_TEXT, "files": {}},
    "ApplyIn": {"flows": [{"text": FLOW_TEXT}], "dry_run": True},
    "StartIn": {"inputs": {"who": "world"}},
    "TrialIn": {"flow": {"text": FLOW_TEXT}, "inputs": {"who": "world"}},
    "RetryIn": {"from": "hello"},
    "ExecuteIn": {"language": "python", "code": 'return sum(inputs["n"])', "inputs": {"n": [1, 2, 3]}},
    "ExecuteImageIn": {"image": "alpine:3.22", "command": "echo $INPUT_WHO", "inputs": {"who": "world"}},
    "PruneIn": {"older_than": "30d", "dry_run": True},
    "TokenIn": {"name": "ci", "scopes": ["runs.*"], "expires_at": "2030-01-01T00:00:00Z"},
    "GrantsIn": _GRANTS,
    "PrincipalIn": {"name": "ci", "role": "editor", "kind": "service", **_GRANTS},
    "RoleIn": {"role": "approver"},
    "WorkspaceIn": {"name": "ops", "admin": "ann"},
    "LinkIn": {"principal": "ann", "lasts": "1h"},
    "DecideIn": {"comment": "looks good", "values": {}},
    "SecretIn": {"value": "not-a-real-secret"},
    "RotationIn": {"value": "not-a-real-secret", "overlap": "24h"},
    "KeyRotationIn": {"prepare": False},
    "RunOut": _RUN,
    "RunDetailOut": {**_RUN, "inputs": {"who": "world"}, "output": "hello world", "steps": {"hello": _STEP}},
    "ResumedOut": {**_RUN, "status": "running", "ended_at": None, "duration_ms": None, "position": "12-1764039124000"},
    "AttemptOut": {
        **_AT,
        "id": "01K6ZQ4T5N8W0Q2M4R6X8Y0A1C",
        "status": "succeeded",
        "result": "hello world",
        "error": None,
        "isolation": "jail",
        "duration_ms": 8.4,
        "tool_calls": 0,
        "egress": 0,
        "image": None,
        "peak_memory": 9_437_184,
        "policy": 2,
        "queued": False,
        "started_at": _BEGAN,
        "ended_at": _ENDED,
    },
    "LineOut": {**_AT, "stream": "stdout", "line": "hello world", "at": _BEGAN},
    "CallOut": {
        **_AT,
        "id": "01K6ZQ4T5N8W0Q2M4R6X8Y0A1D",
        "tool": "workspace.search_tasks",
        "arguments": {"status": "open"},
        "result": {"tasks": []},
        "error": None,
        "started_at": _BEGAN,
        "ended_at": _ENDED,
    },
    "EgressOut": {
        **_AT,
        "host": "api.example.com",
        "port": 443,
        "address": "93.184.215.14",
        "allowed": True,
        "reason": None,
        "sent": 517,
        "received": 20_480,
        "started_at": _BEGAN,
        "ended_at": _ENDED,
    },
    "ExecuteOut": {**_STEP, "result": 6, "stdout": "", "stderr": ""},
    "ArtifactRecordOut": _ARTIFACT,
    "ArtifactAboutOut": {**_ARTIFACT, "run_id": RUN_ID},
    "ApprovalOut": _APPROVAL,
    "DecidedOut": _DECIDED,
    "ApprovalDetailOut": {
        **_APPROVAL,
        "notices": [
            {"to": "team_chat", "attempts": 1, "sent_at": _ENDED, "next_at": None, "dropped": False, "error": None}
        ],
        "refusal": None,
    },
    "LinkOut": {
        "url": f"https://stepbox.example.com/decide/{APPROVAL_ID}/TOKEN",
        "principal": "ann",
        "expires_at": "2026-03-02T09:30:00Z",
    },
    "DeliveryOut": _DELIVERY,
    "EventOut": {
        "id": EVENT_ID,
        "kind": "event",
        "origin": "events",
        "key": "/shop 1042",
        "data": {"type": "order.created", "data": {"n": 1}},
        "causes": [],
        "occurred_at": _CAME,
        "received_at": _CAME,
        "repeats": 0,
        "repeated_at": None,
        "deliveries": [_DELIVERY],
    },
    "HookOut": {"event": EVENT_ID, "status": "started", "run": RUN_ID},
    "SentEventsOut": {
        "items": [
            {
                "event": EVENT_ID,
                "key": "/shop 1042",
                "duplicate": False,
                "deliveries": [{"flow": "greet", "trigger": "created", "status": "pending", "run": None}],
            }
        ]
    },
    "SecretOut": {
        "name": "hook_key",
        "versions": 2,
        "old_until": _ENDED,
        "created_at": _CAME,
        "updated_at": _CAME,
        "last_used_at": None,
    },
    "KeyRotationOut": {
        "key_id": "0123456789abcdef",
        "resealed": 3,
        "kept": ["/var/lib/stepbox/secret.key.fedcba9876543210"],
    },
    "PolicyIn": {"policy": {"limits": {"memory": "1GB"}, "networks": ["none", "allow"]}, "dry_run": False},
    "PolicyOut": _POLICY,
    "PolicyChangeOut": {
        **_POLICY,
        "previous": 1,
        "change": "updated",
        "diff": "--- a/policy 1\n+++ b/policy 2\n@@ -1,2 +1,4 @@\n limits:\n   memory: 1GB\n+networks:\n+  - none",
    },
    "DeletedOut": {"deleted": 1},
    "PrincipalOut": {
        "name": "ci",
        "workspace": "default",
        "kind": "service",
        "role": "editor",
        "enabled": True,
        "created_at": _CAME,
        "disabled_at": None,
        "grants": [{"kind": "tool", "pattern": "workspace.*", "granted_by": "admin", "granted_at": _CAME}],
    },
    "WorkspaceOut": _WORKSPACE,
    "MadeWorkspaceOut": {**_WORKSPACE, "token": {**_TOKEN, "name": "ann", "token": "stp_k3j9x0q2m5zt_…"}},
    "TokenOut": _TOKEN,
    "IssuedTokenOut": {**_TOKEN, "token": "stp_k3j9x0q2m5zt_…"},
    "FlowOut": {
        "flow": "greet",
        "state": "enabled",
        "version": 3,
        "versions": 3,
        "digest": _DIGEST,
        "updated_at": _CAME,
        "last_run": _RUN,
    },
    "VersionOut": _VERSION,
    "FlowDetailOut": {**_VERSION, "state": "enabled", "versions": 3, "updated_at": _CAME},
    "AppliedOut": {**_APPLIED, "change": "created", "version": 1, "previous": None},
    "AppliedListOut": {"items": [{**_APPLIED, "change": "unchanged", "version": None, "previous": 3}]},
    "ValidationOut": {
        "valid": False,
        "flow": None,
        "problems": [
            {
                "file": "flow.yaml",
                "line": 4,
                "column": 5,
                "code": "unknown_key",
                "message": "there is no `shel` here",
                "fix": "did you mean `shell`?",
            }
        ],
    },
    "UpcomingOut": {
        "trigger": "nightly",
        "scheduled_at": "2026-03-01T02:00:00+01:00",
        "due_at": "2026-03-01T01:00:12+00:00",
        "timezone": "Europe/Berlin",
    },
    "VerifyIn": {"since": [_CHECKPOINT]},
    "AuditEntryOut": _ENTRY,
    "AuditVerdictOut": {
        "workspace": "default",
        "entries": 120,
        "first": 1,
        "last": 120,
        "checkpoint": _CHECKPOINT,
        "problem": None,
        "notes": [],
    },
    "PrunedOut": {"removed": False, "runs": 1204, "lines": 0, "artifacts": 0, "events": 0, "contents": 0},
    "HealthOut": {"status": "ok", "checks": {"database": None}},
}


def example_of(name: str) -> Json:
    """The example of a schema; of a page of a listing (``PageOut_RunOut_``) one with the example of its item."""
    item = name.removeprefix("PageOut_").removesuffix("_")
    return {"items": [EXAMPLES[item]], "next": None} if item != name else EXAMPLES[name]
