"""Guarantees about what a sandbox can reach of the machine: files, environment, processes."""

import socket

from steps.sandbox.doctor.canaries import VARIABLE, documented
from steps.sandbox.doctor.guarantee import Guarantee, Reading, Trial, broken, held, some
from steps.sandbox.doctor.mounts import Mount, mounts, parse

NAME_INSIDE = "stepbox"
"""What every sandbox calls its machine, so that one of that name may as well."""
_OF_THE_KERNEL = {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}
"""File systems that are one for the whole machine; what they show is other guarantees' business."""

FILES = """
reached = []
for path, identity in inputs["paths"].items():
    for way in (path, "/proc/1/root" + path, "/proc/self/cwd/../.." + path):
        try:
            found = os.stat(way)
        except OSError:
            continue
        if [found.st_dev, found.st_ino] == identity:
            reached.append(way)
            break
with open("/proc/self/mountinfo", errors="surrogateescape") as file:
    mounted = file.read().encode(errors="replace").decode().splitlines()
return {"reached": reached, "mounted": mounted}
"""


def _read_files(trial: Trial) -> Reading:
    reached = trial.result["reached"]
    mounted = parse(trial.result["mounted"])
    # A number that another's file system had when the canaries were planted may be this sandbox's own by now.
    devices = {one.device for one in trial.canaries.mounts} & {one.device for one in mounts()}
    foreign = [mount for mount in mounted if _of_this_machine(mount, devices) and not documented(mount.place)]
    if found := dict.fromkeys([*(mount.place for mount in foreign), *reached]):
        return broken(f"the code reaches {some(list(found))}")
    return held(f"{len(trial.canaries.paths)} paths tried, none there; {len(mounted)} mounts, documented")


def _of_this_machine(mount: Mount, devices: set[str]) -> bool:
    return mount.kind not in _OF_THE_KERNEL and mount.device in devices


SCRATCH = """
name = inputs["mark"]
visible = [path for path in inputs["files"] if os.path.exists(path)]
for place in ("/work", "/tmp", "/dev/shm"):
    with open(f"{place}/{name}", "w") as file:
        file.write("x")
look()
return visible
"""


def _read_scratch(trial: Trial) -> Reading:
    if trial.result:
        return broken(f"the code sees this machine's {some(trial.result)}")
    if trial.found_at_look:
        return broken(f"what the code wrote is on this machine: {some(trial.found_at_look)}")
    return held("files of either side don't show on the other")


READ_ONLY = """
folders, written = {"/"}, []
kept = ("/work", "/tmp", "/dev/shm", "/proc", "/dev/mqueue", "/dev/pts")
for depth in range(3):
    for folder in list(folders):
        try:
            with os.scandir(folder) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            folders.update(path for path in below if not path.startswith(kept))
        except OSError:
            pass
    if len(folders) > 1500:
        break
for folder in sorted(folders):
    path = os.path.join(folder, inputs["mark"])
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
    except OSError:
        continue
    os.unlink(path)
    written.append(folder)
for path in ("/etc/passwd", "/etc/hosts", "/usr/bin/env", "/bin/sh", "/opt/stepbox/bin/tool", "/etc/ld.so.cache"):
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        continue
    # A container engine hides files behind /dev/null.
    masked = os.fstat(descriptor).st_rdev == os.stat("/dev/null").st_rdev
    os.close(descriptor)
    if masked:
        continue
    written.append(path)
return {"tried": len(folders), "written": written}
"""


def _read_read_only(trial: Trial) -> Reading:
    if written := trial.result["written"]:
        return broken(f"the code writes to {some(written)}")
    return held(f"writing failed in each of {trial.result['tried']} directories")


ENVIRONMENT = """
token, found = inputs["token"], []
names = set(os.environ)
for pid in ["self", *(name for name in os.listdir("/proc") if name.isdigit())]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        continue
    names |= {line.partition("=")[0] for line in text.split("\\0") if line}
    if token in text:
        found.append(pid)
if token in os.environ.values():
    found.append("os.environ")
return {"found": found, "count": len(names)}
"""


def _read_environment(trial: Trial) -> Reading:
    if trial.result["found"]:
        return broken(f"the code reads {VARIABLE} of this process")
    return held(f"a variable of this process is not among its {trial.result['count']}")


DESCRIPTORS = """
import subprocess
own, passed = [], []
for name in os.listdir("/proc/self/fd"):
    try:
        target, status = os.readlink(f"/proc/self/fd/{name}"), os.fstat(int(name))
    except OSError:
        continue
    if [status.st_dev, status.st_ino] == inputs["descriptor"]:
        own.append("the file that this process holds open")
    elif not target.startswith(("pipe:", "/dev/null", "/proc/")):
        own.append(target)
program = "for descriptor in /proc/$$/fd/*; do [ ! -e $descriptor ] || echo ${descriptor##*/}; done"
listed = subprocess.run(["/bin/sh", "-c", program], close_fds=False, capture_output=True, text=True).stdout.split()
return {"own": own, "passed": [number for number in listed if int(number) > 2]}
"""


def _read_descriptors(trial: Trial) -> Reading:
    if own := trial.result["own"]:
        return broken(f"the code holds {some(own)}")
    if passed := trial.result["passed"]:
        return broken(f"programs that the code starts get the descriptors {some(passed)}")
    return held("its own pipes only; programs get 0, 1 and 2")


PROCESSES = """
own = {os.getpid(), os.getppid(), 1}
foreign, canary, pid = [], False, inputs["process"]
for name in os.listdir("/proc"):
    if not name.isdigit() or int(name) in own:
        continue
    foreign.append(name)
    try:
        with open(f"/proc/{name}/cmdline", "rb") as file:
            canary = canary or inputs["token"].encode() in file.read()
    except OSError:
        pass
signalled = False
if pid not in own and (canary or str(pid) not in foreign):
    try:
        os.kill(pid, 9)
        signalled = True
    except OSError:
        pass
return {"foreign": len(foreign), "canary": canary, "signalled": signalled}
"""


def _read_processes(trial: Trial) -> Reading:
    found = trial.result
    if found["signalled"] or trial.canaries.process.returncode is not None:
        return broken("the code can kill processes of this machine")
    if found["canary"] or found["foreign"]:
        return broken(f"the code sees {found['foreign']} processes that aren't its own")
    return held("this machine's are neither seen nor signalled")


IPC = """
libc.shmat.restype = ctypes.c_void_p
address = libc.shmat(inputs["segment"], None, 0o10000)
if address is None or address == ctypes.c_void_p(-1).value:
    return None
return ctypes.string_at(address, len(inputs["token"])).decode(errors="replace")
"""


def _read_ipc(trial: Trial) -> Reading:
    if trial.canaries.segment < 0:
        return held("this machine has no System V shared memory")
    if trial.result is not None:
        return broken("the code attaches shared memory of this machine")
    return held("shared memory of this machine can't be attached")


SETTINGS = """
opened = []
paths = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/kcore", "/proc/kmsg", "/proc/acpi/wakeup",
    "/proc/self/uid_map", "/sys/power/state", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max", "/sys/firmware/efi/efivars",
)
for path in paths:
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        continue
    # A container engine hides files behind /dev/null.
    masked = os.fstat(descriptor).st_rdev == os.stat("/dev/null").st_rdev
    os.close(descriptor)
    if masked:
        continue
    if path == "/proc/self/uid_map":
        try:
            with open(path, "w") as file:
                file.write("0 0 1")
        except OSError:
            continue
    opened.append(path)
return {"opened": opened, "tried": len(paths), "host": os.uname().nodename}
"""


def _read_settings(trial: Trial) -> Reading:
    if opened := trial.result["opened"]:
        return broken(f"the code opens {some(opened)} for writing")
    if trial.result["host"] == socket.gethostname() != NAME_INSIDE:
        return broken(f"the code knows the name of this machine ({trial.result['host']})")
    return held(f"{trial.result['tried']} tried, none is writable; it is called {trial.result['host'][:20]}")


DEVICES = """
import stat
found, count = [], 0
allowed = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}
for folder, folders, files in os.walk("/dev"):
    for name in files:
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        count += 1
        if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode) and device not in allowed and device[0] != 136:
            found.append(path)
for kind, device in ((stat.S_IFCHR, (1, 1)), (stat.S_IFBLK, (8, 0))):
    try:
        os.mknod(f"/work/{inputs['mark']}", kind | 0o666, os.makedev(*device))
        found.append("a device file that it made itself")
        os.unlink(f"/work/{inputs['mark']}")
    except OSError:
        pass
try:
    os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    found.append("a terminal")
except OSError:
    pass
look()
return {"found": found, "count": count}
"""


def _read_devices(trial: Trial) -> Reading:
    if found := trial.result["found"]:
        return broken(f"the code has {some(found)}")
    if any(sight.terminal for sight in trial.sights):
        return broken("the code's process has this terminal")
    return held(f"{trial.result['count']} files in /dev, none of hardware; no terminal")


GUARANTEES = (
    Guarantee(
        id="host_files",
        subject="machine",
        promise="no file of this machine but the documented system paths can be seen",
        code=FILES,
        read=_read_files,
    ),
    Guarantee(
        id="read_only_root",
        subject="machine",
        promise="nothing but /work, /tmp and /dev/shm can be written",
        code=READ_ONLY,
        read=_read_read_only,
    ),
    Guarantee(
        id="private_scratch",
        subject="machine",
        promise="/work, /tmp and /dev/shm are the sandbox's own",
        code=SCRATCH,
        read=_read_scratch,
    ),
    Guarantee(
        id="environment",
        subject="machine",
        promise="no variable of Stepbox's own environment reaches code",
        code=ENVIRONMENT,
        read=_read_environment,
    ),
    Guarantee(
        id="descriptors",
        subject="machine",
        promise="no open file of Stepbox is passed on",
        code=DESCRIPTORS,
        read=_read_descriptors,
    ),
    Guarantee(
        id="processes",
        subject="machine",
        promise="code sees and signals its own processes only",
        code=PROCESSES,
        read=_read_processes,
    ),
    Guarantee(
        id="shared_memory",
        subject="machine",
        promise="shared memory of other programs is out of reach",
        code=IPC,
        read=_read_ipc,
    ),
    Guarantee(
        id="devices",
        subject="machine",
        promise="no device of the machine and no terminal is there",
        code=DEVICES,
        read=_read_devices,
    ),
    Guarantee(
        id="kernel_settings",
        subject="machine",
        promise="the kernel's settings can't be changed, and the machine's name is hidden",
        code=SETTINGS,
        read=_read_settings,
    ),
)
