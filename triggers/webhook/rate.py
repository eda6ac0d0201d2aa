"""How many requests are taken in a time, as a pure value: a bucket that fills again evenly."""

from dataclasses import dataclass
from datetime import datetime

from triggers.webhook.config import Rate


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """How much of a rate is left: ``tokens`` at the time ``at``."""

    tokens: float
    at: datetime


def take(rate: Rate, bucket: Bucket | None, now: datetime) -> tuple[Bucket, float]:
    """The bucket after one more request, and the seconds until it is taken: 0 where it is taken now.

    ``bucket`` is what the last request left, None where there was none. A request that isn't taken takes no token. A
    clock that is set back fills nothing.
    """
    if bucket is None:
        bucket = Bucket(tokens=rate.limit, at=now)
    passed = max(0.0, (now - bucket.at).total_seconds())
    tokens = min(float(rate.limit), bucket.tokens + passed * rate.limit / rate.per)
    at = max(now, bucket.at)
    if tokens >= 1:
        return Bucket(tokens=tokens - 1, at=at), 0.0
    return Bucket(tokens=tokens, at=at), (1 - tokens) * rate.per / rate.limit
