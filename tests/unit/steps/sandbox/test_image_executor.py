"""Steps of ``image`` where code doesn't run in containers."""

from collections.abc import AsyncIterator

import pytest

from steps.image import ImageStep
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.select import containers_of


@pytest.fixture
async def executor() -> AsyncIterator[ImageExecutor]:
    runner = NsjailRunner()
    pool = Sandboxes(runner)
    yield ImageExecutor(pool, containers_of(runner))
    await pool.close()


async def test_jail_refuses_every_image_with_the_fix(executor: ImageExecutor) -> None:
    refused = await executor.refusal(ImageStep.model_validate({"id": "a", "image": "alpine:3", "run": "ls"}))
    assert refused is not None
    assert (refused.code, refused.exit_status) == ("containers_unavailable", 3)
    assert refused.message == "the image alpine:3 needs a container, and code runs in the process jail here"
    assert "`stepbox images build`" in str(refused.fix)
