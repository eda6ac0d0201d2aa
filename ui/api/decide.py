"""The page of a signed link: it shows what a run asks, and takes one person's answer.

The token of the link is the only authority, so that no other page can send an answer in somebody's name. Reading the
page decides nothing: programs open links to preview them.
"""

import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from engine.questions import Approval, Decision
from engine.service import ApprovalDetail, Service
from flows.errors import StepboxError
from flows.values import Json
from ui.api.form_fields import Field, fields_of, filled_in
from ui.api.requests import TheServing

if TYPE_CHECKING:
    from jinja2 import Template

    from engine.principal import Principal

router = APIRouter(include_in_schema=False)

MANY: Final = 20
"""Links that open nothing, from one address within a minute, after which that address is told to wait."""
MINUTE: Final = 60.0
KNOWN: Final = 10_000
"""Addresses that are counted at once."""
MOST_FIELDS: Final = 1000
"""Fields of an answer that are read."""

_STATUS: Final = {"invalid_link": 404, "link_expired": 410, "already_decided": 409}
_TITLES: Final = {404: "This link is not valid", 410: "This link has expired"}


class Refused:
    """Counts, by address, the links that open nothing. What opens something is never refused by it."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        """Count one more; whether there were too many within a minute."""
        now = time.monotonic()
        since, count = self._counts.pop(address, (now, 0))
        if now - since > MINUTE:
            since, count = now, 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > KNOWN:
            self._counts.popitem(last=False)
        return count + 1 > MANY


_refused = Refused()


@router.get("/decide/{approval}/{token}")
async def show(serving: TheServing, request: Request, approval: str, token: str) -> HTMLResponse:
    """Show the question."""
    try:
        holder = await serving.open_link(approval, token, _address(request))
        detail = await serving.service(holder).approval(approval)
    except StepboxError as problem:
        return _closed(request, problem)
    return _page(detail, holder)


@router.post("/decide/{approval}/{token}")
async def answer(serving: TheServing, request: Request, approval: str, token: str) -> HTMLResponse:
    """Take the answer."""
    try:
        holder = await serving.open_link(approval, token, _address(request))
        detail = await serving.service(holder).approval(approval)
    except StepboxError as problem:
        return _closed(request, problem)
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        given = {name: value for name, value in form.items() if isinstance(value, str)}
    return await _answered(serving.service(holder), holder, detail, given)


def _address(request: Request) -> str | None:
    return None if request.client is None else request.client.host


async def _answered(
    service: Service, holder: "Principal", detail: ApprovalDetail, given: dict[str, str]
) -> HTMLResponse:
    approval = detail.approval.id
    values, fields = filled_in(fields_of(detail.approval.form), given)
    comment = given.get("comment", "").strip()
    decision: Decision = "approved" if given.get("decision") == "approved" else "rejected"
    if given.get("decision") not in {"approved", "rejected"}:
        return _page(detail, holder, status=400, said="Say yes or no.", fields=fields, comment=comment)
    if decision == "approved" and any(field.error for field in fields):
        return _page(detail, holder, status=422, said="Some values can't be read.", fields=fields, comment=comment)
    yes = values if decision == "approved" else {}
    try:
        await service.decide(approval, decision, pairs={}, comment=comment[:10_000] or None, values=yes)
    except StepboxError as problem:
        said = _how(detail.approval) if detail.approval.decision else problem.message
        return _page(
            await service.approval(approval), holder, status=_status(problem), said=said, fields=fields, comment=comment
        )
    said = "You said yes. The run goes on." if decision == "approved" else "You said no. The run is told."
    return _page(await service.approval(approval), holder, said=said, good=True)


def _page(
    detail: ApprovalDetail,
    holder: "Principal",
    *,
    status: int = 200,
    said: str | None = None,
    good: bool = False,
    fields: Sequence[Field] | None = None,
    comment: str = "",
) -> HTMLResponse:
    asked = detail.approval
    if said is None and asked.decision is not None:
        said = _how(asked)
    elif said is None and detail.refusal is not None:
        said, status = f"{detail.refusal[:1].upper()}{detail.refusal[1:]}.", 403
    return _html(
        status,
        title=asked.message[:100],
        asked=asked,
        holder=holder.name,
        outcome=None if said is None else {"kind": "good" if good else "bad", "text": said},
        can_decide=asked.decision is None and detail.refusal is None,
        fields=fields_of(asked.form) if fields is None else fields,
        comment=comment,
    )


def _closed(request: Request, problem: StepboxError) -> HTMLResponse:
    """The page of a link that opens nothing."""
    status = _status(problem)
    address = _address(request) or ""
    if _refused.too_many(address):
        return _html(429, {"Retry-After": str(int(MINUTE))}, **_message("Too many links that are not valid", "Wait."))
    text = f"{problem.message[:1].upper()}{problem.message[1:]}. {(problem.fix or '').capitalize()}."
    return _html(status, **_message(_TITLES.get(status, "This can't be shown"), text))


def _message(title: str, text: str) -> dict[str, Json]:
    return {"title": title, "asked": None, "outcome": {"kind": "bad", "text": f"{title}. {text}"}}


def _how(asked: Approval) -> str:
    """How a question was decided, as a sentence."""
    at = "" if asked.decided_at is None else f" at {asked.decided_at:%Y-%m-%d %H:%M:%S} UTC"
    match asked.decision:
        case "timed_out":
            return f"Nobody decided in time: it was over{at}."
        case "withdrawn":
            return f"The run ended{at}, before anybody had decided."
        case _:
            return f"This has been decided: {asked.decision} by {asked.decided_by}{at}."


def _status(problem: StepboxError) -> int:
    return _STATUS.get(problem.code, 403 if "approv" in problem.code or problem.code == "forbidden" else 422)


def _html(status: int, headers: dict[str, str] | None = None, **shown: Json) -> HTMLResponse:
    style = _text("decide.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    page = _template().render(style=style, json=_json, **shown)
    return HTMLResponse(page, status, {"Content-Security-Policy": policy, **(headers or {})})


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only pages need it

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_text("decide.html"))


@cache
def _text(name: str) -> str:
    from markupsafe import Markup  # noqa: PLC0415 - the same

    text = files("ui.api").joinpath(name).read_text(encoding="utf-8")
    return Markup(text) if name.endswith(".css") else text  # noqa: S704 - a file of ours


def _json(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
