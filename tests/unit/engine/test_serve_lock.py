import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.serve_lock import AlreadyServedError, ServeLock


def url(directory: Path) -> str:
    return f"sqlite:///{directory}/stepbox.db"


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    with ServeLock(url(tmp_path)):
        with pytest.raises(AlreadyServedError, match=f"process {os.getpid()}") as refused, ServeLock(url(tmp_path)):
            pass
        assert refused.value.fix is not None
        assert "STEPBOX_DATABASE_URL" in refused.value.fix
    with ServeLock(url(tmp_path)):
        pass


def test_the_lock_dies_with_its_holder_and_is_not_inherited(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\nfrom engine.serve_lock import ServeLock\n"
        f"ServeLock({url(tmp_path)!r}).__enter__()\n"
        "child = subprocess.Popen(['sleep', '60'])\nprint(child.pid, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(AlreadyServedError, match=f"process {holder.pid}"), ServeLock(url(tmp_path)):
                pass
            holder.kill()
            holder.wait()
            with ServeLock(url(tmp_path)):
                pass
        finally:
            os.kill(child, 9)


def test_engines_of_one_postgresql_need_no_lock() -> None:
    with ServeLock("postgresql://db/stepbox"), ServeLock("postgresql://db/stepbox"):
        pass
