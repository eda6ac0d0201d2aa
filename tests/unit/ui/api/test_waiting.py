"""Runs of a service that wait for a person."""

from engine.progress import NoObserver
from tests.unit.ui.api.conftest import Api

ASKS = """\
flow: asks
steps:
  - {id: ask, approval: {message: Go on?}}
finally:
  - {id: last, shell: echo cleaned up}
"""


async def test_a_run_that_waits_is_not_driven_and_goes_on_after_the_decision(api: Api) -> None:
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
    waiting = await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    assert waiting["steps"]["ask"]["error"]["code"] == "waiting"
    assert "last" not in waiting["steps"]
    assert api.serving.active == 0
    service = api.serving.service()
    decided, again = await service.decide(run, "approved", pairs={}, comment=None)
    assert (decided.decision, again) == ("approved", run)
    assert (await service.resume(run, NoObserver())).run.status == "succeeded"
    assert (await api.call("GET", f"/runs/{run}"))["steps"]["last"]["status"] == "succeeded"


async def test_a_run_that_waits_is_cancelled(api: Api) -> None:
    run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
    await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
    assert (await api.call("POST", f"/runs/{run}/cancel", 202))["status"] == "cancelled"
    assert (await api.call("GET", f"/runs/{run}"))["steps"]["last"]["status"] == "succeeded"
