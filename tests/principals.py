"""Principals of tests, with a token of each."""

from engine.principals import GrantPatterns
from engine.reach import EVERYTHING
from engine.records import LOCAL, Role
from engine.store import Store
from engine.tokens import issue


async def token_of(store: Store, name: str, role: Role) -> str:
    """The text of a token of a new principal of that role, who is granted everything."""
    everything = GrantPatterns(tools=(EVERYTHING,), flows=(EVERYTHING,))
    principal = await store.principals.create(name, kind="person", role=role, grants=everything, by=LOCAL)
    return (await issue(store, principal)).text
