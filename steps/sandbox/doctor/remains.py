"""Guarantees about what is left of a sandbox, for the machine and for other sandboxes."""

from steps.sandbox.doctor.guarantee import Guarantee, Reading, Trial, broken, held, some

DAEMON = """
import time
if os.fork() == 0:
    os.setsid()
    for number in range(3):
        os.close(number)
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(0.02)
look()
return "ended"
"""


def _read_daemon(trial: Trial) -> Reading:
    if trial.lingering:
        return broken(f"{len(trial.lingering)} processes still run on this machine")
    assert trial.result == "ended"
    seen = len(trial.sights)
    if not seen:
        return held("not seen from this machine; the sandbox has ended")
    return held(f"{seen} processes seen, none once the step had ended")


LEAVE = """
name = inputs["mark"] + "-left"
for place in ("/work", "/tmp", "/dev/shm"):
    with open(f"{place}/{name}", "w") as file:
        file.write("left")
libc.shmget(inputs["keys"][0], 4096, 0o1000 | 0o666)
return "left"
"""

FIND = """
found = []
for place in ("/work", "/tmp", "/dev/shm", "/var/tmp"):
    if os.path.exists(f"{place}/{inputs['mark']}-left"):
        found.append(place)
if libc.shmget(inputs["keys"][0], 4096, 0) >= 0:
    found.append("shared memory")
return found
"""


def _read_left(trial: Trial) -> Reading:
    assert trial.result == "left"
    if found := trial.result_of_other:
        return broken(f"the next sandbox finds what the last one left in {some(found)}")
    return held("its files and shared memory are not there")


HOST_OF_NEIGHBOUR = """
import socket
server = socket.create_server(("127.0.0.1", 0))
server.setblocking(False)
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0" + inputs["mark"])
abstract.listen()
abstract.setblocking(False)
with open("/tmp/" + inputs["mark"], "w") as file:
    file.write("mine")
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(inputs["keys"][1], 4096, 0o1000 | 0o666)
libc.shmat(segment, None, 0)
look({"port": server.getsockname()[1], "name": inputs["mark"], "pid": os.getpid()})
visitors = []
for name, listener in (("listener", server), ("socket", abstract)):
    try:
        listener.accept()
        visitors.append(name)
    except OSError:
        pass
return visitors
"""

NEIGHBOUR = """
import socket
found = []
try:
    socket.create_connection(("127.0.0.1", inputs["port"]), 2)
    found.append("listener")
except OSError:
    pass
try:
    socket.socket(socket.AF_UNIX).connect("\\0" + inputs["name"])
    found.append("socket")
except OSError:
    pass
if os.path.exists("/tmp/" + inputs["name"]):
    found.append("file")
if libc.shmget(inputs["keys"][1], 4096, 0) >= 0:
    found.append("shared memory")
for pid in os.listdir("/proc"):
    try:
        with open(f"/proc/{pid}/comm") as file:
            if file.read().strip() == inputs["name"]:
                found.append("process")
    except OSError:
        pass
return found
"""


def _read_neighbour(trial: Trial) -> Reading:
    if reached := dict.fromkeys([*trial.result_of_other, *trial.result]):
        return broken(f"one sandbox reaches another's {some(list(reached), most=5)}")
    return held("no file, process, socket or memory is shared")


GUARANTEES = (
    Guarantee(
        id="neighbours",
        subject="remains",
        promise="sandboxes that run at the same time can't reach each other",
        code=HOST_OF_NEIGHBOUR,
        neighbour=NEIGHBOUR,
        read=_read_neighbour,
    ),
    Guarantee(
        id="daemons",
        subject="remains",
        promise="what code leaves running is gone once its step has ended",
        code=DAEMON,
        read=_read_daemon,
    ),
    Guarantee(
        id="single_use",
        subject="remains",
        promise="nothing is left for the next sandbox",
        code=LEAVE,
        successor=FIND,
        read=_read_left,
    ),
)
