"""The use cases every door calls, and the values they take and give.

One protocol, so that a command works on this machine's installation or on a remote service alike. A service acts for
one :class:`engine.principal.Principal`, and every use case asks :func:`engine.policy.require` first. Nothing here
imports prefect or the database.
"""

from engine.service.errors import (
    AllDrivenError,
    FlowDisabledError,
    InvalidPositionError,
    PreconditionFailedError,
    RejectedError,
    ShuttingDownError,
    StartKeyReusedError,
)
from engine.service.protocol import Service
from engine.service.serving import Serving
from engine.service.values import (
    AppliedFlow,
    ApprovalDetail,
    FlowText,
    ImageSnippet,
    Precondition,
    Readiness,
    Resumption,
    RunEvent,
    SentRequest,
    Snippet,
    StartedRun,
    Target,
)

__all__ = [
    "AllDrivenError",
    "AppliedFlow",
    "ApprovalDetail",
    "FlowDisabledError",
    "FlowText",
    "ImageSnippet",
    "InvalidPositionError",
    "Precondition",
    "PreconditionFailedError",
    "Readiness",
    "RejectedError",
    "Resumption",
    "RunEvent",
    "SentRequest",
    "Service",
    "Serving",
    "ShuttingDownError",
    "Snippet",
    "StartKeyReusedError",
    "StartedRun",
    "Target",
]
