"""What a step's code may use up, with the defaults of each language."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["python", "javascript", "shell"]

MB = 1_000_000
MAX_ARTIFACTS = 1_000
"""Files that an attempt may leave."""
MAX_ARTIFACT_PATH = 1_024
"""Bytes of a path in UTF-8: what the narrowest of the usual stores takes (S3)."""
MAX_ARTIFACT_DEPTH = 20
"""Directories in one another."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Resolved limits of one job. Times in seconds, sizes in bytes."""

    timeout: float = 30.0
    grace: float = 2.0
    """Between SIGTERM and SIGKILL once the timeout is over."""
    memory: int = 128 * MB
    cpu: float = 1.0
    """Processors: 0.5 is half of one."""
    pids: int = 64
    disk: int = 64 * MB
    """Of the work directory, and the same of /tmp."""
    output: int = 1 * MB
    """stdout and stderr together; what is beyond is dropped and marked."""
    code: int = 100_000
    result: int = 1 * MB
    """Encoded as JSON."""
    artifacts: int = 50 * MB
    """Of all the files together that an attempt leaves."""
    requests: int = 50
    """Over the network: connections to a host, however much goes through each."""
    transfer: int = 100 * MB
    """Bytes over the network, both ways together."""
    tool_calls: int = 100

    def of_artifacts(self) -> dict[str, int]:
        """What the guest is told of them (guest/artifacts.py)."""
        return {
            "bytes": self.artifacts,
            "files": MAX_ARTIFACTS,
            "depth": MAX_ARTIFACT_DEPTH,
            "path": MAX_ARTIFACT_PATH,
        }


def default_limits(language: Language) -> Limits:
    """The limits of a step that declares none (DESIGN section 3: 256 MB for Python, 128 MB otherwise)."""
    return Limits(memory=256 * MB) if language == "python" else Limits()
