"""What the installation and its workspaces say of approvals: who may decide, who is told, and by which links."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from engine.links import LinkHolder, Links, NoPublicUrlError, SignedLink
from engine.policies import Policies
from engine.questions import Approval
from engine.settings import ApprovalSettings
from flows.contracts import OwnApprovals


class ApprovalRules:
    """Implements :class:`engine.notices.Rules`. ``links`` signs and opens links."""

    def __init__(self, settings: ApprovalSettings, policies: Policies, links: Links) -> None:
        self._settings = settings
        self._policies = policies
        self.links = links

    async def own_approvals(self, workspace: str) -> OwnApprovals | None:
        """What the installation and the policy of a workspace say of requesters who decide; None: nothing."""
        said = {self._settings.own_approvals, (await self._policies.current(workspace)).own_approvals}
        if "refuse" in said:
            return "refuse"
        return "allow" if "allow" in said else None

    async def notified(self, workspace: str) -> Sequence[str]:
        """Names of a workspace's secrets with the addresses to tell of each approval."""
        policy = await self._policies.current(workspace)
        return tuple(dict.fromkeys((*self._settings.notify, *policy.notify)))

    @property
    def has_links(self) -> bool:
        """Whether links can be made: whether it is known where people reach the service."""
        return self._settings.public_url is not None

    async def link_to(self, asked: Approval, principal: str, *, until: datetime | None = None) -> SignedLink:
        """A link by which a principal decides a question, until then at most.

        Raises:
            NoPublicUrlError: it isn't known under which address the service is reached.
        """
        if self._settings.public_url is None:
            raise NoPublicUrlError(
                "it isn't known under which address people reach the service",
                fix="set STEPBOX_PUBLIC_URL, such as https://stepbox.example.com",
            )
        latest = datetime.now(UTC) + timedelta(seconds=self._settings.link_expires)
        expires_at = min(time for time in (latest, until, asked.expires_at) if time is not None).replace(microsecond=0)
        holder = LinkHolder(workspace=asked.workspace, principal=principal, expires_at=expires_at)
        token = await self.links.token(asked.id, holder)
        url = f"{self._settings.public_url.rstrip('/')}/decide/{asked.id}/{token}"
        return SignedLink(url=url, principal=principal, expires_at=expires_at)
