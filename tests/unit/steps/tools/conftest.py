from pathlib import Path

import pytest

from steps.tools.contract import ToolContext, ToolServices
from tests.unit.steps.tools.memory import MemoryContent


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    """A call by code: it may read no file of this machine."""
    shared = tmp_path / "shared"
    return ToolContext(
        services=ToolServices(content=MemoryContent(), shared=str(shared)),
        workspace="default",
        run_id="run",
        step_id="step",
        idempotency_key="key-1",
    )
