"""The policy of the workspace: what its flows may do at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from engine.records import Page
from engine.service.values import Precondition
from engine.workspace_policy import PolicyVersion
from flows.values import Json


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """What setting a policy does, or would do. ``diff`` is that of the documents as YAML, in the unified format."""

    version: PolicyVersion
    previous: int
    change: Literal["created", "updated", "unchanged"]
    diff: str


class PolicyUseCases(Protocol):
    """The policy of the workspace: what its flows may do at most."""

    async def policy(self) -> PolicyVersion:
        """The version in force; number 0 where nobody has set one."""

    async def policy_version(self, number: int) -> PolicyVersion:
        """The version of that number. Raises :class:`engine.store.errors.UnknownRecordError` where there is none."""

    async def policy_versions(self, *, limit: int = 50, cursor: str | None = None) -> Page[PolicyVersion]:
        """The versions, the newest first."""

    async def set_policy(
        self, document: Mapping[str, Json], *, precondition: Precondition | None = None, dry_run: bool = False
    ) -> PolicyChange:
        """Put a policy in force; the same document again changes nothing. With ``dry_run`` nothing is kept.

        It holds for what is applied, started and attempted from now on, in this process at once, in others within a
        second. ``precondition`` has the :attr:`PolicyVersion.tag` that it must replace.

        Raises:
            InvalidPolicyError: something is wrong with it; everything is named.
            PreconditionFailedError: another version is in force.
        """
