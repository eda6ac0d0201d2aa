"""What ``image.build`` does: a build on the Docker Engine that the environment names."""

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from flows.errors import RefusedError
from flows.values import Json
from steps.ceilings import WHO
from steps.sandbox.docker import builds, dockerfile
from steps.sandbox.docker.endpoint import DockerUnavailableError, find
from steps.sandbox.docker.engine import Engine
from steps.tools.contract import InvalidArgumentsError, TooLargeError, ToolContext
from steps.tools.encoding import decoded

MAX_DOCKERFILE: Final = 64_000
MAX_CONTEXT: Final = 1_000_000
"""Bytes of all files together: a person is shown them before."""
MB: Final = 1 << 20
_DOCKERFILE: Final = "Dockerfile"


async def build(arguments: Mapping[str, Json], context: ToolContext) -> Json:
    text: str = arguments["dockerfile"]
    if arguments["tag"].endswith("\n"):  # Which the `$` of a pattern lets pass.
        raise InvalidArgumentsError("the tag ends with a newline", fix="remove it")
    if len(text.encode(errors="replace")) > MAX_DOCKERFILE:
        raise TooLargeError(f"a Dockerfile may have {MAX_DOCKERFILE:,} bytes", fix="split it, or start from an image")
    build_args: dict[str, str] = arguments.get("args", {})
    parsed = dockerfile.parse(text, build_args)
    for base in parsed.bases:
        if (why := context.ceilings.image_problem(base)) is not None:
            raise InvalidArgumentsError(f"the image {base} {why}", fix=f"start from another one; {WHO}")
    files = dict(_files(arguments.get("files", {})))
    engine = Engine(find(context.services.docker))
    try:
        await _open(engine)
        _check_runtime(engine, context.services.runtime)
        built = await builds.build(
            engine,
            builds.Order(
                tag=arguments["tag"],
                dockerfile=parsed,
                context=lambda text: _archive({_DOCKERFILE: (text.encode(), False), **files}),
                build_args=build_args,
                target=arguments.get("target"),
                pull=arguments.get("pull", "missing") == "missing",
                timeout=float(arguments.get("timeout", 600)),
                memory=arguments.get("memory_mb", 1024) * MB,
                workspace=context.workspace,
                run_id=context.run_id,
            ),
        )
    finally:
        await engine.close()
    return {"image": arguments["tag"], "id": built.id, "size": built.size, "log": built.log}


def _files(given: Mapping[str, Json]) -> Iterator[tuple[str, tuple[bytes, bool]]]:
    """The content of each file, and whether it may be executed."""
    size = 0
    for name, file in given.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name or not name.isprintable():
            raise InvalidArgumentsError(f"{name!r} isn't a path in the build", fix="write it like src/app.py")
        if name.lower() in {_DOCKERFILE.lower(), ".dockerignore"}:
            raise InvalidArgumentsError(f"{name} isn't for a file", fix="give the Dockerfile as `dockerfile`")
        content = decoded({"content": file} if isinstance(file, str) else file)
        size += len(content)
        if size > MAX_CONTEXT:
            raise TooLargeError(
                f"the files have more than {MAX_CONTEXT:,} bytes", fix="start from an image that has the large ones"
            )
        yield name, (content, not isinstance(file, str) and file.get("executable", False))


def _archive(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, (content, executable) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


async def _open(engine: Engine) -> None:
    """Connect.

    Raises:
        DockerUnavailableError: there is no Engine; images are built by one whatever runs the steps.
    """
    try:
        await engine.open()
    except DockerUnavailableError as error:
        raise DockerUnavailableError(
            error.message, fix="images are built by a Docker Engine: start it, or say by DOCKER_HOST where it is"
        ) from None


def _check_runtime(engine: Engine, wanted: str | None) -> None:
    """Refuse an Engine that would build with another runtime than steps are to have.

    Raises:
        RefusedError: it would.
    """
    default = str(engine.info.get("DefaultRuntime", ""))
    if wanted is not None and wanted != default:
        raise RefusedError(
            f"steps run with the runtime {wanted}, and the Engine would build with its default, {default}",
            fix=f"make {wanted} the `default-runtime` of the Engine",
        )
