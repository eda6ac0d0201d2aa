"""What the environment says: the only place that reads it.

Every variable begins with ``STEPBOX_``, but those that Docker and OpenTelemetry have given names to.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.records import DEFAULT_WORKSPACE
from flows.contracts import Isolation
from flows.errors import InvalidCallError
from flows.names import MAX_NAME, NAME
from flows.values import ByteSize, Duration
from steps.addresses import Endpoint

_PREFIX: Final = "STEPBOX_"
_HTTP: Final = r"^https?://[^\s]+$"


SHORTEST_TOKEN: Final = 32
"""Characters of a token that somebody else chose: those of 128 random bits in hexadecimal."""

_Concern = TypeVar("_Concern", bound=BaseSettings)


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )


class HomeUnavailableError(InvalidCallError):
    """The directory of the installation can't be made."""

    code = "home_unavailable"


class HomeSettings(_Settings):
    """Where an installation lives."""

    home: Path = Path(".stepbox")
    """``STEPBOX_HOME``: the directory of the database, the files and the keys."""
    workspace: str = Field(default=DEFAULT_WORKSPACE, pattern=f"^{NAME.pattern}$", max_length=MAX_NAME)
    """``STEPBOX_WORKSPACE``: in which the commands work on the home; with ``STEPBOX_URL`` the token says that."""

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    def make(self) -> Path:
        """Make the home where it isn't there yet, for this user only, and give it.

        Raises:
            HomeUnavailableError: it can't be made.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise HomeUnavailableError(
                f"the home {self.home} can't be made: {reason}",
                fix="choose a directory that you may write to by STEPBOX_HOME",
            ) from problem
        return self.home

    @property
    def files(self) -> Path:
        """The contents of the workspaces' files."""
        return self.home / "files"

    @property
    def secret_key(self) -> Path:
        """The key that secrets are encrypted by."""
        return self.home / "secret.key"

    @property
    def spool(self) -> Path:
        """What is on its way to or from another place of artifacts than a directory."""
        return self.home / "spool"

    @property
    def shared(self) -> Path:
        """What the ``files.*`` tools see."""
        return self.home / "shared"


class StoreSettings(_Settings):
    """Which database keeps the runs."""

    database_url: str | None = None
    """``STEPBOX_DATABASE_URL``: ``sqlite:///path`` or ``postgresql://…``; left out: ``stepbox.db`` in the home."""


class ArtifactSettings(_Settings):
    """Where the files that steps leave are kept."""

    artifacts_url: str | None = None
    """``STEPBOX_ARTIFACTS_URL``: a directory or any fsspec URL; left out: ``artifacts`` in the home."""


class RunnerSettings(_Settings):
    """How code is isolated, and how much of it runs at once."""

    runner: Literal["auto", "docker", "nsjail"] = "auto"
    """``STEPBOX_RUNNER``."""
    min_isolation: Isolation | None = None
    """``STEPBOX_MIN_ISOLATION``: refuse to run code in anything weaker (``jail`` < ``container``)."""
    concurrency: int = Field(default=10, ge=1, le=1000)
    """``STEPBOX_CONCURRENCY``: runs of code at once in one process, of all workspaces; how many in a workspace, its
    policy says."""
    ready_min: int = Field(default=1, ge=0, le=1000)
    """``STEPBOX_READY_MIN``: sandboxes that a service keeps ready for each language, whether or not steps come."""
    ready_max: int = Field(default=10, ge=0, le=1000)
    """``STEPBOX_READY_MAX``: sandboxes that a service keeps ready at most, of all kinds; how many, demand decides."""
    runtime: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """``STEPBOX_RUNTIME``: the container runtime of steps by its name in the Docker Engine, such as ``runsc``."""
    guest_image: str | None = None
    """``STEPBOX_GUEST_IMAGE``: where the image of sandboxes is, if not under the name that `images build` gives it."""


class DockerSettings(BaseSettings):
    """Where the Docker Engine is: Docker's own variables, which the docker command reads as well."""

    model_config = SettingsConfigDict(
        env_prefix="DOCKER_", frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    host: str | None = None
    """``DOCKER_HOST``: ``unix:///path`` or ``tcp://host:port``; left out: the context, or this machine's Engine."""
    tls_verify: str | None = None
    """``DOCKER_TLS_VERIFY``: anything, to speak TLS and check the Engine's certificate."""
    cert_path: str | None = None
    """``DOCKER_CERT_PATH``: the directory of ``ca.pem``, ``cert.pem`` and ``key.pem``."""
    context: str | None = None
    """``DOCKER_CONTEXT``."""
    config: str | None = None
    """``DOCKER_CONFIG``: the directory of Docker's client settings; left out: ``~/.docker``."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables that are set, by name."""
        return {f"DOCKER_{name.upper()}": value for name, value in self.model_dump().items() if value}


class NetworkSettings(_Settings):
    """Which internal destinations the administrator opens."""

    internal: Annotated[frozenset[Endpoint], NoDecode] = frozenset()
    """``STEPBOX_INTERNAL``: ``host:port`` pairs, separated by commas, that tools may reach though not public, and code
    where its step allows them."""

    ca_file: Path | None = None
    """``STEPBOX_CA_FILE``: certificates (PEM) of authorities that tools and code trust besides the usual ones."""

    @field_validator("internal", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(Endpoint.parse(part) for part in value.replace(",", " ").split())


class PrefectSettings(_Settings):
    """Whether a Prefect server drives the runs."""

    prefect_api_url: str | None = None
    """``STEPBOX_PREFECT_API_URL``; left out: runs are driven in this process."""


class TraceSettings(BaseSettings):
    """Whether there are traces: OpenTelemetry's own variables. Its SDK reads the others (:mod:`engine.tracing`)."""

    model_config = SettingsConfigDict(
        env_prefix="OTEL_", frozen=True, extra="ignore", use_attribute_docstrings=True, env_ignore_empty=True
    )

    exporter_otlp_endpoint: str | None = Field(default=None, pattern=_HTTP)
    """``OTEL_EXPORTER_OTLP_ENDPOINT``: where a collector takes OTLP over HTTP; ``/v1/traces`` is added to it."""
    exporter_otlp_traces_endpoint: str | None = Field(default=None, pattern=_HTTP)
    """``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``: the same for traces alone, as it stands."""
    exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    """``OTEL_EXPORTER_OTLP_PROTOCOL``: the only one that Stepbox speaks."""
    exporter_otlp_traces_protocol: Literal["http/protobuf"] = "http/protobuf"
    """``OTEL_EXPORTER_OTLP_TRACES_PROTOCOL``: the same."""
    traces_exporter: Literal["otlp", "none"] = "otlp"
    """``OTEL_TRACES_EXPORTER``: ``none`` for no traces, whatever the endpoint."""
    sdk_disabled: str = "false"
    """``OTEL_SDK_DISABLED``: ``true`` for the same; anything else means no, as OpenTelemetry has it."""

    @property
    def are_on(self) -> bool:
        """Whether spans are recorded."""
        endpoint = self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint
        return bool(endpoint) and self.traces_exporter != "none" and self.sdk_disabled.strip().lower() != "true"


class SecretSettings(_Settings):
    """Where the key comes from that secrets are encrypted by; left out: from ``secret.key`` in the home."""

    secret_key: SecretStr | None = None
    """``STEPBOX_SECRET_KEY``: 32 bytes in base64; while the key is changed, the new one and the present one."""
    secret_key_command: str | None = None
    """``STEPBOX_SECRET_KEY_COMMAND``: a command that prints the same, started without a shell."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.secret_key is not None and self.secret_key_command is not None:
            raise ValueError("set STEPBOX_SECRET_KEY or STEPBOX_SECRET_KEY_COMMAND, not both")
        return self


class ServeSettings(_Settings):
    """How ``stepbox serve`` works."""

    concurrent_runs: int = Field(default=20, ge=1, le=1000)
    """``STEPBOX_CONCURRENT_RUNS``: runs that go on at once; further ones are queued."""
    shutdown_grace: Duration = 30.0
    """``STEPBOX_SHUTDOWN_GRACE``: how long what runs may take to end once the service is told to."""
    max_body: ByteSize = Field(default=10_000_000, ge=1000)
    """``STEPBOX_MAX_BODY``: bytes of the body of a request."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """``STEPBOX_LOG_FORMAT``: ``auto`` is for people on a terminal and JSON lines elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """``STEPBOX_LOG_LEVEL``."""
    admin_token: SecretStr | None = None
    """``STEPBOX_ADMIN_TOKEN``: presets the admin token; at least 32 characters that nobody can guess."""

    @field_validator("admin_token")
    @classmethod
    def _long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not (len(token) >= SHORTEST_TOKEN and token.get_secret_value().isascii()):
            raise ValueError(f"must be at least {SHORTEST_TOKEN} ASCII characters, and hard to guess")
        return token


class ApprovalSettings(_Settings):
    """How people are asked."""

    public_url: str | None = Field(default=None, pattern=r"^https?://[^?#\s]+$")
    """``STEPBOX_PUBLIC_URL``: where people reach the service, such as ``https://stepbox.example.com``; for links."""
    link_expires: Duration = Field(default=7 * 86400.0, gt=0)
    """``STEPBOX_LINK_EXPIRES``: how long a signed link holds, at most until the question's own time is over."""
    notify: Annotated[tuple[str, ...], NoDecode] = ()
    """``STEPBOX_NOTIFY``: names of secrets that hold apprise URLs, separated by commas, to tell of each approval."""
    own_approvals: Literal["allow", "refuse"] | None = None
    """``STEPBOX_OWN_APPROVALS``: whether who asks for something may decide it; left out: as the kind of approval has
    it."""

    @field_validator("notify", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


class KeepSettings(_Settings):
    """How long things are kept; ``forever`` for no end."""

    keep_runs: Duration | None = 90 * 86400.0
    """``STEPBOX_KEEP_RUNS``: since their end, with all that belongs to them."""
    keep_runs_per_flow: int | None = Field(default=None, ge=0)
    """``STEPBOX_KEEP_RUNS_PER_FLOW``: of each flow only so many that have ended, the newest."""
    keep_logs: Duration | None = None
    """``STEPBOX_KEEP_LOGS``: what code has printed, since the end of its run; left out: as long as the run."""
    keep_artifacts: Duration | None = None
    """``STEPBOX_KEEP_ARTIFACTS``: what steps have left, since the end of their run; left out: as long as the run."""
    keep_events: Duration | None = 90 * 86400.0
    """``STEPBOX_KEEP_EVENTS``: since they came, and for as long one that comes again is known."""

    keep_audit: Duration | None = None
    """``STEPBOX_KEEP_AUDIT``: entries of the audit since they were made; left out: forever."""

    def only_runs(self, age: float) -> "KeepSettings":
        """With nothing removed but runs that ended ``age`` seconds ago, and what belongs to them."""
        changes = {"keep_runs": age, "keep_runs_per_flow": None, "keep_logs": None, "keep_artifacts": None}
        return self.model_copy(update={**changes, "keep_events": None, "keep_audit": None})

    @field_validator("*", mode="before")
    @classmethod
    def _without_end(cls, value: object) -> object:
        return None if value == "forever" else value


class ClientSettings(_Settings):
    """Which service the commands talk to."""

    url: str | None = Field(default=None, pattern=r"^https?://[^/?#\s]+/?$")
    """``STEPBOX_URL``: such as ``https://stepbox.example.com``; left out: the installation in the home."""
    token: SecretStr | None = None
    """``STEPBOX_TOKEN``."""


class InvalidSettingsError(InvalidCallError):
    """Environment variables whose values mean nothing."""

    code = "invalid_settings"


class Settings:
    """All settings, one attribute a concern, as the environment says them at the time of making."""

    def __init__(self) -> None:
        """Read the environment.

        Raises:
            InvalidSettingsError: variables have values that mean nothing, or one is misspelt; the message names all.
        """
        problems = [*_misspelt()]
        home, store = _read(HomeSettings, problems), _read(StoreSettings, problems)
        artifacts, runner = _read(ArtifactSettings, problems), _read(RunnerSettings, problems)
        network, prefect = _read(NetworkSettings, problems), _read(PrefectSettings, problems)
        docker, serve = _read(DockerSettings, problems), _read(ServeSettings, problems)
        client, keep = _read(ClientSettings, problems), _read(KeepSettings, problems)
        traces, secrets = _read(TraceSettings, problems), _read(SecretSettings, problems)
        if not (home and store and artifacts and runner and network and prefect and docker) or problems:
            raise InvalidSettingsError("\n".join(problems), fix="change or unset these variables")
        approvals = _read(ApprovalSettings, problems)
        if client is not None and client.url is not None and home.workspace != DEFAULT_WORKSPACE:
            problems.append("STEPBOX_WORKSPACE is for the home: with STEPBOX_URL, the token is of one workspace")
        if not (serve and client and keep and approvals and traces and secrets) or problems:
            raise InvalidSettingsError("\n".join(problems), fix="change or unset these variables")
        self.home, self.store, self.artifacts, self.runner = home, store, artifacts, runner
        self.network, self.prefect, self.docker = network, prefect, docker
        self.serve, self.client, self.keep, self.approvals = serve, client, keep, approvals
        self.traces, self.secrets = traces, secrets

    @property
    def database_url(self) -> str:
        """The database's URL: what the environment says, or ``stepbox.db`` in the home."""
        return self.store.database_url or f"sqlite:///{self.home.home / 'stepbox.db'}"

    @property
    def artifacts_url(self) -> str:
        """The place of artifacts: what the environment says, or ``artifacts`` in the home."""
        return self.artifacts.artifacts_url or str(self.home.home / "artifacts")


def _read(concern: type[_Concern], problems: list[str]) -> _Concern | None:
    try:
        return concern()
    except ValidationError as error:
        problems += _explain(error, concern.model_config["env_prefix"])
        return None


def _explain(error: ValidationError, prefix: str) -> Iterator[str]:
    for detail in error.errors():
        if not detail["loc"]:
            yield str(detail["msg"]).removeprefix("Value error, ")
            continue
        name = str(detail["loc"][0])
        given = "" if name in _SECRET else f"={detail['input']!r}"
        yield f"{prefix}{name.upper()}{given}: {detail['msg']}"


_CONCERNS = (
    HomeSettings,
    StoreSettings,
    ArtifactSettings,
    RunnerSettings,
    NetworkSettings,
    PrefectSettings,
    ServeSettings,
    KeepSettings,
    ApprovalSettings,
    ClientSettings,
    SecretSettings,
)
_SECRET = {"admin_token", "token", "database_url", "secret_key"}
"""What no message shows."""


def _misspelt() -> Iterator[str]:
    """Variables so close to one of ours that a guarantee may silently not be asked for."""
    known = {f"{_PREFIX}{name.upper()}" for settings in _CONCERNS for name in settings.model_fields}
    for variable in sorted(os.environ):
        if variable.startswith(_PREFIX) and variable not in known:
            for meant in difflib.get_close_matches(variable, known, n=1, cutoff=0.9):
                yield f"{variable} means nothing: did you mean {meant}?"
