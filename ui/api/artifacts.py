"""Artifacts: the files that steps have left, listed, and given out as they are streamed from where they are kept."""

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, BinaryIO, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.documents import artifact_record_document
from engine.records import ArtifactRecord
from flows.values import Json
from ui.api.models import ARTIFACT_ID, ArtifactAboutOut, ArtifactRecordOut, PageOut
from ui.api.openapi import problem_response, refusals
from ui.api.problems import problem
from ui.api.ranges import UnsatisfiableError, requested
from ui.api.requests import Paging, RunPath, TheService, page_after

router = APIRouter(tags=["artifacts"])

PIECE: Final = 1 << 18
"""Bytes that are read at once."""

_TYPE: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(; ?charset=[\w-]{1,40})?", re.ASCII)
_UNKNOWN_TYPE: Final = "application/octet-stream"
_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"

ArtifactPath = Annotated[str, Path(alias="artifact", pattern="^[0-9A-HJKMNP-TV-Z]{26}$", examples=[ARTIFACT_ID])]


@router.get(
    "/runs/{run}/artifacts",
    operation_id="listArtifacts",
    response_model=PageOut[ArtifactRecordOut],
    responses=refusals(404, 409),
)
async def list_artifacts(service: TheService, run: RunPath, query: Annotated[Paging, Query()]) -> Json:
    """What the steps of a run left, by step, item, attempt and path; those that are superseded, too."""
    found = await service.run_artifacts(run)
    page, following = page_after(found, lambda one: one.id, query)
    return {"items": [artifact_record_document(one) for one in page], "next": following}


@router.get(
    "/artifacts/{artifact}/about",
    operation_id="describeArtifact",
    response_model=ArtifactAboutOut,
    responses=refusals(404),
)
async def describe_artifact(service: TheService, artifact: ArtifactPath) -> Json:
    """What is known of an artifact."""
    record = await service.artifact(artifact)
    return {**artifact_record_document(record), "run_id": record.run_id}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


_HEADERS: Final = {
    "Content-Disposition": _header("To be saved, never shown, under the file's own name."),
    "ETag": _header("Of the content."),
    "Repr-Digest": _header("The SHA-256 of the whole content (RFC 9530)."),
    "Accept-Ranges": _header("`bytes`"),
}
_CONTENT: Final[dict[str, Any]] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/artifacts/{artifact}",
    operation_id="getArtifact",
    response_class=Response,
    responses={
        **refusals(404),
        200: {"description": "The whole content.", "content": _CONTENT, "headers": _HEADERS},
        206: {
            "description": "The part that `Range` asks for.",
            "content": _CONTENT,
            "headers": {**_HEADERS, "Content-Range": _header("Which part, and of how many bytes.")},
        },
        416: problem_response("The content has no byte of that range."),
        500: problem_response("What is kept is damaged, or gone."),
    },
)
async def get_artifact(
    *,
    service: TheService,
    artifact: ArtifactPath,
    wanted: Annotated[str | None, Header(alias="Range", max_length=200, description="One range of bytes.")] = None,
    if_range: Annotated[
        str | None, Header(max_length=200, description="The `ETag` of the content of which a part is there already.")
    ] = None,
) -> Response:
    """The content of an artifact, or a part of it, checked before the first byte is sent."""
    record = await service.artifact(artifact)
    async with AsyncExitStack() as stack:
        (content,) = await service.fetch_artifacts([record.artifact])
        stack.push_async_callback(service.release_artifacts, [content])
        etag = f'"{record.sha256}"'
        try:
            part = requested(wanted, record.size) if if_range is None or if_range.strip() == etag else None
        except UnsatisfiableError:
            whole = {"Content-Range": f"bytes */{record.size}"}
            message = f"the content has {record.size:,} bytes, and none of that range"
            return problem(416, "unsatisfiable_range", message, fix="ask for a range within it", headers=whole)
        file: BinaryIO = await asyncio.to_thread(content.open, "rb")
        stack.callback(file.close)
        return _Content(record, file, part, {"ETag": etag}, stack.pop_all())


class _Content(StreamingResponse):
    """Sends a part of a file, or all of it, and closes what it was lent."""

    def __init__(
        self,
        record: ArtifactRecord,
        file: BinaryIO,
        part: tuple[int, int] | None,
        headers: dict[str, str],
        lent: AsyncExitStack,
    ) -> None:
        first, end = part or (0, record.size)
        self._lent = lent
        more = {"Content-Range": f"bytes {first}-{end - 1}/{record.size}"} if part else {}
        super().__init__(
            _pieces(file, first, end),
            206 if part else 200,
            {
                **headers,
                **more,
                "Content-Type": record.media_type if _TYPE.fullmatch(record.media_type) else _UNKNOWN_TYPE,
                "Content-Length": str(end - first),
                "Content-Disposition": disposition(record.path),
                "Content-Security-Policy": _POLICY,
                "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(record.sha256)).decode()}:",
                "Accept-Ranges": "bytes",
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._lent:
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO, first: int, end: int) -> AsyncIterator[bytes]:
    await asyncio.to_thread(file.seek, first)
    left = end - first
    while left and (piece := await asyncio.to_thread(file.read, min(PIECE, left))):
        left -= len(piece)
        yield piece


def disposition(path: str) -> str:
    """Have a browser save a file by its own name, whatever that holds (RFC 6266)."""
    name = path.rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"
