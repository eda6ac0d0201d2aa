"""The protocol of the service, of all nouns together."""

from typing import Protocol

from engine.service.approvals import ApprovalUseCases
from engine.service.artifacts import ArtifactUseCases
from engine.service.audit import AuditUseCases
from engine.service.events import EventUseCases
from engine.service.flows import FlowUseCases
from engine.service.maintenance import MaintenanceUseCases
from engine.service.policy import PolicyUseCases
from engine.service.principals import PrincipalUseCases
from engine.service.run_records import RunRecordUseCases
from engine.service.running import RunUseCases
from engine.service.secrets import SecretUseCases
from engine.service.tokens import TokenUseCases
from engine.service.workspaces import WorkspaceUseCases


class Service(
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
    Protocol,
):
    """What the doors can ask for."""
