"""No use case passes without the policy: a principal whose role allows nothing is refused by every one."""

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest

from engine.bootstrap import language
from engine.bootstrap.parts import Parts
from engine.local_service import LocalService
from engine.policy import Action, ForbiddenError, require
from engine.principal import LOCAL_ADMIN, Principal
from engine.progress import NoObserver
from engine.service import FlowText, Service, Snippet
from engine.settings import Settings

NOBODY = Principal(name="nobody", workspace="default", role="nothing", kind="token")  # type: ignore[arg-type]
FLOW = FlowText(text=b"flow: f\nsteps: [{id: a, shell: echo 1}]\n", path="f.yaml", directory=None)
GIVEN: dict[str, Any] = {
    "flow": FLOW,
    "flows": [FLOW],
    "definition": None,
    "inputs": {},
    "observer": NoObserver(),
    "directory": Path(),
    "target": "f",
    "snippet": Snippet(language="shell", code=""),
    "seconds": 0,
    "number": 1,
    "enabled": True,
    "status": None,
    "limit": 1,
    "step": None,
    "notice": lambda _tried: None,
}
USE_CASES = sorted(name for name, _one in inspect.getmembers(Service, inspect.isfunction) if not name.startswith("_"))


def test_an_admin_may_do_all_of_it() -> None:
    for action in get_args(Action):
        require(LOCAL_ADMIN, action)


@pytest.mark.parametrize("name", USE_CASES)
async def test_every_use_case_asks_first(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))
    parts = Parts(settings=Settings(), language=language())
    use_case = getattr(LocalService(parts, NOBODY), name)
    required = [
        each.name for each in inspect.signature(use_case).parameters.values() if each.default is inspect.Parameter.empty
    ]
    given = {each: GIVEN.get(each, "x") for each in required}

    async def ask() -> object:
        outcome = use_case(**given)
        return await outcome if inspect.isawaitable(outcome) else outcome

    with pytest.raises(ForbiddenError, match="nobody, whose role is nothing"):
        await ask()
    await parts.close()
    # Refused before anything was opened.
    assert not (tmp_path / "home").exists()
