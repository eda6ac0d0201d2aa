"""The service on this machine's own installation."""

from engine.use_cases.approvals import ApprovalUseCases
from engine.use_cases.artifacts import ArtifactUseCases
from engine.use_cases.audit import AuditUseCases
from engine.use_cases.events import EventUseCases
from engine.use_cases.flows import FlowUseCases
from engine.use_cases.maintenance import MaintenanceUseCases
from engine.use_cases.policy import PolicyUseCases
from engine.use_cases.principals import PrincipalUseCases
from engine.use_cases.recorded import recorded
from engine.use_cases.run_records import RunRecordUseCases
from engine.use_cases.running import RunUseCases
from engine.use_cases.secrets import SecretUseCases
from engine.use_cases.tokens import TokenUseCases
from engine.use_cases.workspaces import WorkspaceUseCases


@recorded
class LocalService(
    FlowUseCases,
    RunUseCases,
    RunRecordUseCases,
    ArtifactUseCases,
    ApprovalUseCases,
    EventUseCases,
    SecretUseCases,
    TokenUseCases,
    PolicyUseCases,
    PrincipalUseCases,
    WorkspaceUseCases,
    AuditUseCases,
    MaintenanceUseCases,
):
    """Implements :class:`engine.service.Service` in this process, on the home directory of the settings.

    It is made as :class:`engine.use_cases.acting.Acting` is.
    """
