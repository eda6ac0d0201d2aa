"""placeholder"""
from pathlib import Path
class Interpreter:
    async def find(self) -> Path | None: ...
