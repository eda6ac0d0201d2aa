"""The store: everything that Stepbox keeps, in one database."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.audit_mark import Marks
from engine.secret_key import KeyFile, KeySource
from engine.store import schema
from engine.store.approvals import Approvals
from engine.store.artifacts import Artifacts
from engine.store.audit import Audit
from engine.store.blobs import Blobs
from engine.store.calls import Calls
from engine.store.code_slots import CodeSlots
from engine.store.content import Content
from engine.store.contents import ArtifactContents
from engine.store.database import Database
from engine.store.egress import Egress
from engine.store.events import Events
from engine.store.flows import Flows
from engine.store.full_network import FullNetwork
from engine.store.held import Held
from engine.store.leases import Leases
from engine.store.logs import Logs
from engine.store.notices import Notices
from engine.store.policies import StoredPolicies
from engine.store.principals import Principals
from engine.store.retention import Retention
from engine.store.runs import Runs
from engine.store.secrets import Secrets
from engine.store.start_keys import StartKeys
from engine.store.steps import Steps
from engine.store.tokens import Tokens
from engine.store.undriven import Undriven
from engine.store.waits import Waits
from engine.store.workspaces import Workspaces
from flows.errors import InvalidCallError
from steps.sandbox import owner


class Store:
    """An open database, by noun.

    ``flows``, ``runs``, ``leases`` (which engine drives which run), ``undriven`` (those that none does),
    ``start_keys``, ``steps`` (attempts), ``logs``, ``calls`` (of tools), ``approvals`` (questions to people),
    ``full_network`` (those about flow versions), ``notices`` (of questions), ``waits`` (for times and events),
    ``egress`` (requests over the network), ``artifacts`` (what steps left), ``secrets`` (encrypted), ``policies`` (of
    workspaces), ``code_slots`` (which code may begin), ``events`` (what came in, and what became of it), ``held`` (what
    of that waits to be released), ``workspaces``, ``principals`` (with their grants), ``tokens``, ``content`` (the
    workspaces' documents, tasks and files), ``audit`` (who did what) and ``retention`` (what removes the old).
    """

    def __init__(self, database: Database, blobs: Blobs, contents: ArtifactContents, audit: Audit) -> None:
        self._database = database
        self.audit = audit
        self.engine = owner.identity()
        """Who drives the runs that are started or taken over through this."""
        self.flows = Flows(database)
        self.runs = Runs(database, self.engine)
        self.leases = Leases(database, self.engine)
        self.undriven = Undriven(database)
        self.steps = Steps(database, self.engine)
        self.logs = Logs(database, self.engine)
        self.calls = Calls(database, self.engine)
        self.approvals = Approvals(database, self.engine)
        self.full_network = FullNetwork(database, self.approvals)
        self.notices = Notices(database)
        self.waits = Waits(database, self.engine)
        self.egress = Egress(database, self.engine)
        self.artifacts = Artifacts(database, contents)
        self.secrets = Secrets(database)
        self.code_slots = CodeSlots(database, self.engine)
        self.policies = StoredPolicies(database)
        self.events = Events(database)
        self.held = Held(database)
        self.start_keys = StartKeys(database)
        self.workspaces = Workspaces(database)
        self.principals = Principals(database)
        self.tokens = Tokens(database)
        self.retention = Retention(database, contents)
        self.content = Content(database, blobs)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        files: Path | str | None = None,
        artifacts: Path | str | None = None,
        spool: Path | None = None,
        keys: KeySource | None = None,
        marks: Path | None = None,
    ) -> Self:
        """Open ``sqlite:///path`` or ``postgresql://…``, creating or upgrading its tables where needed.

        ``files`` is where the contents of the workspaces' files are kept: a directory, or an fsspec URL; left out, the
        directory ``files`` beside an SQLite database. ``artifacts`` is the same for what steps leave; left out, the
        directory ``artifacts`` beside ``files``. ``spool`` is a directory for artifacts on their way to or from a URL.
        ``keys`` open the key that the audit is sealed by, and the directory ``marks`` has the marks of its chains; left
        out, ``secret.key`` and ``audit`` beside an SQLite database, or beside ``files``.

        Raises:
            InvalidDatabaseUrlError: the URL can't be used.
            StoreUnavailableError: the database can't be reached or opened.
            StoreNewerError: a newer Stepbox upgraded it.
        """
        database = Database(url)
        if files is None:
            if not database.is_sqlite:
                raise InvalidCallError("a PostgreSQL store needs a place for the contents of files", fix="pass files=…")
            files = Path(str(database.url.database)).parent / "files"
        if artifacts is None:
            artifacts = f"{str(files).rstrip('/').rpartition('/')[0] or '.'}/artifacts"
        try:
            await schema.prepare(database)
        except BaseException:
            await database.close()
            raise
        home = (Path(str(database.url.database)) if database.is_sqlite else Path(str(files))).parent
        audit = Audit(database, keys or KeyFile(home / "secret.key"), Marks(marks or home / "audit"))
        return cls(database, Blobs(str(files)), ArtifactContents(str(artifacts), spool), audit)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the operations of this task inside the block commit together, or not at all.

        Keep it short: on SQLite nobody else can write meanwhile, other tasks included.
        """
        async with self._database.transaction():
            yield

    def once_committed(self, call: Callable[[], None]) -> None:
        """Make this call once what this task has written is committed: now, or at the end of the transaction."""
        self._database.once_committed(call)

    async def close(self) -> None:
        await self._database.close()
        self.artifacts.contents.spool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
