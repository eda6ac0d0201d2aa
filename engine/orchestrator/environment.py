"""Prefect's settings for the two gears, made before prefect is first imported.

Embedded, nothing may reach for a server: each setting here takes away one attempt to (DESIGN section 7).
"""

import os
from pathlib import Path

UNREACHED_API = "http://stepbox-embedded.invalid/api"
"""The API address in the embedded gear: it is never called, and no resolver knows it (RFC 2606)."""


def prepare(home: Path, api_url: str | None) -> None:
    """Set what prefect reads at import. ``api_url`` None is the embedded gear. Idempotent.

    The process environment is prefect's only way to be told before its import. What the user has set for prefect
    stays only where a run doesn't depend on it: the home, and how much it logs.
    """
    os.environ.setdefault("PREFECT_HOME", str(home / "prefect"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ |= {
        "PREFECT_API_URL": api_url or UNREACHED_API,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if api_url is None:
        os.environ |= {
            "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
        }
