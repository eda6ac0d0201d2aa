"""Which policy of a workspace is in force, at next to no cost for those who ask before each step."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from engine.store import Store
from engine.workspace_policy import DEFAULT, PolicyVersion, WorkspacePolicy, parse
from steps.ceilings import NO_CEILINGS, Ceilings

FRESH: Final = 1.0
"""Seconds for which a policy that was read is taken to be in force. One that is set in this process is so at once."""


@dataclass(frozen=True, kw_only=True)
class InForce:
    """A policy, its number (0: nobody has set one), and what it means for steps. ``until`` it is not read again."""

    number: int = 0
    policy: WorkspacePolicy = DEFAULT
    ceilings: Ceilings = NO_CEILINGS
    until: float = field(default=0.0, compare=False)


_NOBODY_SET: Final = InForce()


class Policies:
    """The policies of all workspaces, as they were read in the last second; implements :class:`steps.ceilings.Rules`.

    ``fresh`` in seconds.
    """

    def __init__(self, store: Callable[[], Awaitable[Store]], *, fresh: float = FRESH) -> None:
        self._store = store
        self._fresh = fresh
        self._in_force: dict[str, InForce] = {}
        self._reading = asyncio.Lock()

    @classmethod
    def of(cls, store: Store) -> "Policies":
        """Those of a store that is open."""

        async def opened() -> Store:
            return store

        return cls(opened)

    async def in_force(self, workspace: str) -> InForce:
        """What is in force.

        Raises:
            InvalidPolicyError: this version can't read it, as where a newer one wrote it. Nothing may run then.
        """
        known = self._in_force.get(workspace)
        if known is not None and monotonic() < known.until:
            return known
        async with self._reading:
            known = self._in_force.get(workspace)
            if known is None or monotonic() >= known.until:
                known = self._take(await (await self._store()).policies.current(workspace))
            return known

    async def current(self, workspace: str) -> WorkspacePolicy:
        """The policy in force; raises as :meth:`in_force`."""
        return (await self.in_force(workspace)).policy

    async def ceilings(self, workspace: str) -> Ceilings:
        """What it means for steps; raises as :meth:`in_force`."""
        return (await self.in_force(workspace)).ceilings

    def known(self, workspace: str) -> InForce:
        """What was in force when somebody last asked: for hints that needn't be right."""
        return self._in_force.get(workspace, _NOBODY_SET)

    def changed(self, version: PolicyVersion) -> None:
        """Hear of a version that was put in force in this process."""
        self._take(version)

    def _take(self, version: PolicyVersion) -> InForce:
        """Take this version for the one in force, unless a newer one is known; gives what is."""
        until = monotonic() + self._fresh
        known = self._in_force.get(version.workspace)
        if known is not None and known.number >= version.number:
            now = InForce(number=known.number, policy=known.policy, ceilings=known.ceilings, until=until)
        else:
            policy = parse(version.document)
            now = InForce(number=version.number, policy=policy, ceilings=policy.ceilings(), until=until)
        self._in_force[version.workspace] = now
        return now
