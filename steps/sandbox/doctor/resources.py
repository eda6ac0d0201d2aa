"""Guarantees about what code may use up.

An attack takes a bounded multiple of its limit, so that it does no harm where nothing stops it.
"""

from dataclasses import replace

from flows.values import StepStatus
from steps.sandbox.doctor.guarantee import MODEST, Guarantee, Reading, Trial, broken, held
from steps.sandbox.limits import MB

DOCUMENTED_INODES = 16_384
DOCUMENTED_SHARED = 16 * MB
DOCUMENTED_OPEN_FILES = 1_024
"""The limits that no step can change (docs/sandbox.md)."""
PAGES = 65_536
"""Bytes by which a file system may exceed its size: it has whole pages."""
CPU_TOLERANCE = 1.4
"""The scheduler gives a share in slices of 100 ms, of which a short attack may catch one more (sched-bwc in Linux)."""

MEMORY = """
import time
share = inputs["share"]
for number in range(4):
    if os.fork() == 0:
        hoard = []
        for piece in range(share // 4_000_000):
            hoard.append(bytearray(b"x") * 4_000_000)
            time.sleep(0.002)
        time.sleep(60)
        os._exit(0)
time.sleep(4)
return "held"
"""


def _read_memory(trial: Trial) -> Reading:
    outcome, limit = trial.ended, trial.limits.memory
    if outcome.status is StepStatus.OUT_OF_MEMORY:
        peak = "" if outcome.peak_memory is None else f" at {outcome.peak_memory // MB} MB"
        return held(f"{3 * limit // MB} MB wanted, ended{peak}; the limit is {limit // MB} MB")
    return broken(f"4 processes {trial.result} {3 * limit // MB} MB; the limit is {limit // MB} MB")


CPU = """
import time
end = time.monotonic() + 0.9
started = time.perf_counter()
for number in range(3):
    if os.fork() == 0:
        while time.monotonic() < end:
            pass
        os._exit(0)
for number in range(3):
    os.wait()
times = os.times()
return [times.children_user + times.children_system, time.perf_counter() - started]
"""


def _read_cpu(trial: Trial) -> Reading:
    used, wall = trial.result
    if trial.ended.cpu_time is not None:
        used, wall = trial.ended.cpu_time, trial.ended.duration
    share = used / wall
    busy = " (this machine is busy)" if share < trial.limits.cpu / 2 else ""
    told = f"3 busy processes had {share:.2f} processors; limit {trial.limits.cpu:g}{busy}"
    return held(told) if share <= trial.limits.cpu * CPU_TOLERANCE else broken(told)


PIDS = """
count, wait = 0, os.pipe()[0]
for number in range(inputs["most"]):
    try:
        if os.fork() == 0:
            os.read(wait, 1)
            os._exit(0)
    except OSError:
        break
    count += 1
return count
"""


def _read_pids(trial: Trial) -> Reading:
    told = f"{trial.result} of {4 * trial.limits.pids} forks succeeded; the limit is {trial.limits.pids}"
    return held(told) if trial.result < trial.limits.pids else broken(told)


DISK = """
import shutil
def fill(place):
    total, folder = 0, f"{place}/{inputs['mark']}"
    os.mkdir(folder)
    try:
        for number in range(inputs["most"] // 500_000):
            with open(f"{folder}/{number}", "wb", buffering=0) as file:
                total += file.write(bytes(500_000))
    except OSError:
        pass
    shutil.rmtree(folder)
    return total
return {place: fill(place) for place in inputs["places"]}
"""


def _read_disk(trial: Trial) -> Reading:
    limit = trial.limits.disk
    most = max(trial.result.values())
    if most > limit + PAGES:
        return broken(f"{most / MB:.1f} MB were written; the limit is {limit / MB:g} MB")
    told = ", ".join(f"{place} at {written / MB:.1f} MB" for place, written in trial.result.items())
    return held(f"full: {told}; limit {limit / MB:g} MB")


def _read_shared(trial: Trial) -> Reading:
    written = trial.result["/dev/shm"]  # noqa: S108 - the same
    told = f"full at {written / MB:.1f} MB; the limit is {DOCUMENTED_SHARED // MB} MB"
    return (
        held(told)
        if written <= DOCUMENTED_SHARED + PAGES
        else broken(f"{written / MB:.1f} MB were written; the limit is {DOCUMENTED_SHARED // MB} MB")
    )


FILES = """
import shutil
def make(place):
    count, folder = 0, f"{place}/{inputs['mark']}"
    os.mkdir(folder)
    try:
        for count in range(inputs["most"]):
            os.close(os.open(f"{folder}/{count}", os.O_CREAT | os.O_WRONLY))
    except OSError:
        count -= 1
    shutil.rmtree(folder)
    return count + 1
return [make("/work"), make("/tmp")]
"""


def _read_files(trial: Trial) -> Reading:
    most = max(trial.result)
    if most > DOCUMENTED_INODES:
        return broken(f"{most:,} files were made; the limit is {DOCUMENTED_INODES:,}")
    return held(f"no more than {most:,} in /work and in /tmp")


OPEN_FILES = """
import resource
count = 0
try:
    while count < inputs["most"]:
        os.open("/dev/null", os.O_RDONLY)
        count += 1
except OSError:
    pass
cores = False
try:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cores = True
except (OSError, ValueError):
    cores = resource.getrlimit(resource.RLIMIT_CORE)[1] > 1
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_000_000, 1_000_000))
    count = 1_000_000
except (OSError, ValueError):
    pass
return {"open": count, "cores": cores}
"""


def _read_open_files(trial: Trial) -> Reading:
    if trial.result["open"] > DOCUMENTED_OPEN_FILES:
        return broken(f"{trial.result['open']:,} files can be open; the limit is {DOCUMENTED_OPEN_FILES:,}")
    if trial.result["cores"]:
        return broken("the code may write core dumps")
    return held(f"{trial.result['open']:,} beside its own; neither limit can be raised")


TIMEOUT = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
else:
    look()
end = time.monotonic() + inputs["most"]
while time.monotonic() < end:
    time.sleep(0.05)
return "not stopped"
"""


def _read_timeout(trial: Trial) -> Reading:
    outcome, limits = trial.ended, trial.limits
    if outcome.status is not StepStatus.TIMED_OUT:
        return broken(f"{trial.result} after {outcome.duration:.1f} s; the timeout is {limits.timeout:g} s")
    if trial.lingering:
        return broken(f"{len(trial.lingering)} processes that ignore SIGTERM still run")
    return held(f"ended after {outcome.duration:.1f} s ({limits.timeout:g} s, and {limits.grace:g} s of grace)")


_MEMORY = replace(MODEST, memory=64 * MB)
_CPU = replace(MODEST, cpu=0.2)
_PIDS = replace(MODEST, pids=16)
_TIMEOUT = replace(MODEST, timeout=0.5, grace=0.3)

GUARANTEES = (
    Guarantee(
        id="memory",
        subject="limits",
        promise="all processes of a step together have its memory and no more",
        code=MEMORY,
        limits=_MEMORY,
        inputs={"share": _MEMORY.memory * 3 // 4},
        read=_read_memory,
        limit="memory",
    ),
    Guarantee(
        id="cpu",
        subject="limits",
        promise="a step has its share of the processors and no more",
        code=CPU,
        limits=_CPU,
        fallback=replace(_CPU, cpu=1.0),
        read=_read_cpu,
        limit="cpu",
        alone=True,
    ),
    Guarantee(
        id="pids",
        subject="limits",
        promise="a fork bomb ends at the limit of processes",
        code=PIDS,
        limits=_PIDS,
        inputs={"most": 4 * _PIDS.pids},
        read=_read_pids,
        limit="pids",
    ),
    Guarantee(
        id="timeout",
        subject="limits",
        promise="code is ended at its timeout, though it ignores SIGTERM",
        code=TIMEOUT,
        limits=_TIMEOUT,
        inputs={"most": 6},
        read=_read_timeout,
        limit="timeout",
    ),
    Guarantee(
        id="disk",
        subject="limits",
        promise="/work and /tmp hold as much as the limit of the disk says",
        code=DISK,
        inputs={"most": 4 * MODEST.disk, "places": ["/work", "/tmp"]},  # noqa: S108 - the sandbox's own
        read=_read_disk,
        limit="disk",
    ),
    Guarantee(
        id="files",
        subject="limits",
        promise=f"/work and /tmp hold {DOCUMENTED_INODES:,} files each",
        code=FILES,
        inputs={"most": DOCUMENTED_INODES + 1000},
        read=_read_files,
        limit="disk",
    ),
    Guarantee(
        id="dev_shm",
        subject="limits",
        promise="/dev/shm holds 16 MB",  # noqa: S108 - the same
        code=DISK,
        limits=replace(MODEST, disk=32 * MB),
        inputs={"most": 2 * DOCUMENTED_SHARED, "places": ["/dev/shm"]},  # noqa: S108 - the same
        read=_read_shared,
        limit="disk",
    ),
    Guarantee(
        id="open_files",
        subject="limits",
        promise=f"a process has at most {DOCUMENTED_OPEN_FILES:,} files open and dumps no core",
        code=OPEN_FILES,
        inputs={"most": 3 * DOCUMENTED_OPEN_FILES},
        read=_read_open_files,
    ),
)
