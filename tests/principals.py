"""Principals of tests, with a token of each."""

from engine.records import Role
from engine.store import Store
from engine.tokens import issue


async def token_of(store: Store, name: str, role: Role) -> str:
    """The text of a token of a principal of that role."""
    issued = await issue(store, principal=name, workspace="default")
    await store.tokens.create(issued.record.id, issued.record.digest, principal=name, role=role)
    return issued.text
