"""The keys under which callers ask for runs, so that a request that is made again starts nothing twice."""

from sqlalchemy import Connection, bindparam, select

from engine.store.database import Database, upsert_into
from engine.store.tables import StartKeyTable

_TABLE = StartKeyTable.__table__
_FIND = select(_TABLE.c.digest, _TABLE.c.run_id).where(
    _TABLE.c.workspace == bindparam("workspace"), _TABLE.c.key == bindparam("key")
)


class StartKeys:
    """The start keys of all workspaces. A key is kept as long as its run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, workspace: str, key: str) -> tuple[str, str] | None:
        """The digest of what was asked for under a key, and the id of the run that it started."""
        rows = await self._database.rows(_FIND, {"workspace": workspace, "key": key})
        return (rows[0].digest, rows[0].run_id) if rows else None

    async def claim(self, workspace: str, key: str, digest: str, run_id: str) -> bool:
        """Keep the run as that of the key; False where the key has another one."""
        values = {"workspace": workspace, "key": key, "digest": digest, "run_id": run_id}

        def claim(connection: Connection) -> bool:
            insert = upsert_into(connection, StartKeyTable)
            claimed = insert.values(values).on_conflict_do_nothing().returning(_TABLE.c.run_id)
            return connection.scalar(claimed) is not None

        return await self._database.write(claim)
