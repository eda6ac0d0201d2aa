"""What all calls of a service elsewhere have: the client, and the language of this machine."""

from pathlib import Path

from engine.language import Language
from engine.remote.client import Client


class Calling:
    """Base of the calls. Flows are read, and checked first, on this machine."""

    def __init__(self, client: Client, language: Language) -> None:
        self._client = client
        self._language = language
        self._fetched: list[Path] = []
        """Directories of artifacts, which go with the service."""
        self._decided: set[str] = set()
        """Runs that this has decided on, which go on by themselves."""
