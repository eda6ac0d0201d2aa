"""The page of a signed link in a real Chromium: without scripts, on a phone too, and answered once."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import Page, async_playwright

from engine.bootstrap import open_serving
from engine.principal import LOCAL_ADMIN
from engine.questions import Approval
from engine.service import FlowText, Service
from tests.principals import token_of
from ui.api.app import create_app

CHROMIUM = "STEPBOX_TEST_CHROMIUM"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FLOW = b"""\
flow: release
steps:
  - id: ask
    approval:
      message: Ship it?
      approvers: [ann]
      form:
        type: object
        required: [channel, percent, urgent]
        properties:
          channel: {enum: [beta, 7]}
          percent: {type: integer, default: 10}
          urgent: {type: boolean}
          why: {type: string}
          tags: {type: array, items: {type: string}}
    with: {note: "<img src=x onerror=alert(1)>", long: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
output: ${{ steps.ask.result.values }}
"""


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    program = os.environ.get(CHROMIUM)
    if program is None:
        pytest.skip(f"{CHROMIUM} isn't set: run the tests through scripts/services.py")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield await browser.new_page(viewport={"width": 360, "height": 700})
        await browser.close()


@pytest.fixture
async def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Service, str, str]]:
    """A service that listens, the id of a question, and ann's link to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("STEPBOX_RUNNER", "nsjail")
        monkeypatch.setenv("STEPBOX_PUBLIC_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        async with open_serving() as serving:
            config = uvicorn.Config(create_app(serving, max_body=100_000), log_config=None, lifespan="off")
            server = uvicorn.Server(config)
            answering = asyncio.create_task(server.serve(sockets=[listening]))
            await token_of(await serving._parts.store(), "ann", "approver")
            service = serving.service(LOCAL_ADMIN)
            run = (await service.start(FlowText(text=FLOW, path="f.yaml", directory=None), {})).run.id
            async with asyncio.timeout(60):
                found: tuple[Approval, ...] = ()
                while not found:
                    found = tuple((await service.approvals(run=run, undecided=True)).items)
                    await asyncio.sleep(0.1)
            yield service, found[0].id, (await service.approval_link(found[0].id, "ann")).url
            server.should_exit = True
            await answering


async def test_a_question_is_answered_on_a_phone(page: Page, asked: tuple[Service, str, str]) -> None:
    service, approval, url = asked
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    await page.goto(url)
    assert await page.locator("h1").inner_text() == "Ship it?"
    assert "onerror=alert(1)" in await page.locator("pre").inner_text()
    assert await page.locator("img, script").count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate("getComputedStyle(document.querySelector('.yes')).color") == "rgb(255, 255, 255)"
    # What is required holds back a yes, in the browser already.
    await page.click("button.yes")
    assert await page.locator("[role=status]").count() == 0
    assert (await service.approval(approval)).approval.decision is None

    await page.select_option("[name='value.channel']", label="7")
    await page.select_option("[name='value.urgent']", label="no")
    await page.fill("[name='value.tags']", "[not json")
    await page.click("button.yes")
    assert await page.locator(".wrong").inner_text() == "This is not JSON."
    assert await page.input_value("[name='value.percent']") == "10"
    await page.fill("[name='value.tags']", '["a"]')
    await page.fill("[name=comment]", "as agreed")
    await page.click("button.yes")
    assert await page.locator("[role=status]").inner_text() == "You said yes. The run goes on."
    decided = (await service.approval(approval)).approval
    assert decided.form_values == {"channel": 7, "percent": 10, "urgent": False, "tags": ["a"]}
    assert (decided.decided_by, decided.comment) == ("ann", "as agreed")

    await page.goto(url)
    assert "This has been decided: approved by ann at " in await page.locator("[role=status]").inner_text()
    assert await page.locator("form").count() == 0
    # Nothing but what Chromium says of an answer with that status: no script, and no style that the policy refused.
    assert [one for one in said if "status of 422" not in one] == []
