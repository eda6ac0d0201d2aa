"""Guarantees about privileges and system calls."""

from steps.sandbox.doctor.guarantee import Guarantee, Reading, Trial, broken, held, some
from steps.sandbox.doctor.system_calls import CALLS

_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

PRIVILEGES = """
with open("/proc/self/status") as file:
    fields = {name: value.strip() for name, _colon, value in (line.partition(":\\t") for line in file)}
look()
gained = []
for name, attempt in {
    "user 0": lambda: os.setuid(0), "group 0": lambda: os.setgid(0), "groups": lambda: os.setgroups([0]),
    "a hidden directory": lambda: os.chroot("/work"), "another's file": lambda: os.chown("/etc/passwd", 0, 0),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
}.items():
    try:
        attempt()
        gained.append(name)
    except OSError:
        pass
return {"gained": gained, "status": fields}
"""


def _read_privileges(trial: Trial) -> Reading:
    if gained := trial.result["gained"]:
        return broken(f"the code gains {some(gained)}")
    for status in [trial.result["status"], *(sight.status for sight in trial.sights)]:
        if "0" in (status.get("Uid") or "0").split():
            return broken("the code's process is root's")
        if any(int(status.get(name) or "0", 16) for name in _SETS):
            return broken(f"the code has capabilities: {' '.join(f'{name} {status.get(name)}' for name in _SETS[2:4])}")
        if status.get("NoNewPrivs") == "0":
            return broken("no_new_privs is not set, so that set-uid programs give privileges")
    outside = {sight.status["Uid"].split()[0] for sight in trial.sights}
    return held(f"no capability; user {some(sorted(outside)) or 'unknown'} outside")


SYSTEM_CALLS = """
column = {"x86_64": 1, "aarch64": 2}.get(os.uname().machine)
if column is None:
    return {"allowed": [], "tried": 0}
def attempt(number, arguments):
    \"\"\"In a process of its own: what succeeds would change this one.\"\"\"
    pid = os.fork()
    if pid == 0:
        values = [os.getpid() if value == "pid" else value for value in arguments]
        values = [value.encode() if isinstance(value, str) else ctypes.c_long(value) for value in values]
        code = 0 if libc.syscall(ctypes.c_long(number), *values) >= 0 else ctypes.get_errno()
        os._exit(code if code < 256 else 255)
    return os.waitpid(pid, 0)[1] >> 8
allowed, tried = [], 0
for call in inputs["calls"]:
    if call[column] < 0:
        continue
    tried += 1
    if attempt(call[column], call[3]) not in (1, 38):
        allowed.append(call[0])
return {"allowed": allowed, "tried": tried}
"""


def _read_system_calls(trial: Trial) -> Reading:
    if allowed := trial.result["allowed"]:
        return broken(f"allowed are {some(allowed, most=5)}")
    if not trial.result["tried"]:
        return broken("the numbers of system calls on this architecture are not known here")
    return held(f"{trial.result['tried']} denied: ptrace, mount, bpf, keyctl, unshare …")


SUPERVISOR = """
reached = []
boss = os.getppid()
for path in (f"/proc/{boss}/mem", f"/proc/{boss}/maps", f"/proc/{boss}/environ", f"/proc/{boss}/fd/0"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        reached.append(path)
    except OSError:
        pass
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
secret, place = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
here, there = Vector(ctypes.addressof(place), 8), Vector(ctypes.addressof(secret), 8)
if libc.process_vm_readv(boss, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
    reached.append("its memory")
libc.ptrace.argtypes = [ctypes.c_long] * 4
if libc.ptrace(16, boss, 0, 0) == 0:
    reached.append("its registers")
look()
for number in (1, 2, 3, 15, 10, 12, 11, 19, 9):
    try:
        os.kill(boss, number)
    except OSError:
        pass
return reached
"""


def _read_supervisor(trial: Trial) -> Reading:
    if trial.ended.error is not None and trial.ended.error.code == "sandbox_lost":
        return broken("the code kills the supervisor of the sandbox")
    if reached := trial.result:
        return broken(f"the code reaches into the supervisor: {some(reached)}")
    return held("not readable or traceable; outlived 9 signals")


JAVASCRIPT = """
const found = [];
const attempts = {
  "Deno": () => Deno.readTextFileSync("/etc/passwd"),
  "Deno by eval": () => Function("return Deno.version")(),
  "process": () => process.env.PATH,
  "require": () => require("fs"),
  "node:fs": () => import("node:fs"),
  "node:child_process": () => import("node:child_process"),
  "npm": () => import("npm:chalk"),
  "files as modules": () => import("file:///etc/passwd"),
  "modules of the web": () => import("https://deno.land/std/version.ts"),
  "fetch": () => fetch(`http://127.0.0.1:${inputs.ports["HTTP"]}/`),
  "WebSocket": () => new Promise((yes, no) => {
    const line = new WebSocket(`ws://127.0.0.1:${inputs.ports["HTTP"]}/`);
    line.onopen = yes;
    line.onerror = no;
  }),
  "Worker": () => new Worker("data:text/javascript,0", { type: "module" }),
  "WebAssembly": () => new WebAssembly.Memory({ initial: 1 }),
  "setTimeout": () => setTimeout(() => {}, 0),
  "localStorage": () => localStorage.setItem("a", "b"),
};
for (const [name, attempt] of Object.entries(attempts)) {
  try { await attempt(); found.push(name); } catch {}
}
return { found, tried: Object.keys(attempts).length };
"""


def _read_javascript(trial: Trial) -> Reading:
    if "HTTP" in trial.canaries.contacts:
        return broken("JavaScript reached this machine")
    if found := trial.result["found"]:
        return broken(f"JavaScript has {some(found)}")
    return held(f"{trial.result['tried']} ways out closed: Deno, node:, import, fetch …")


GUARANTEES = (
    Guarantee(
        id="privileges",
        subject="privileges",
        promise="code has no capability, can gain none, and is nobody's user outside",
        code=PRIVILEGES,
        read=_read_privileges,
    ),
    Guarantee(
        id="system_calls",
        subject="privileges",
        promise="tracing, mounts, namespaces, keyrings, bpf and the like are denied",
        code=SYSTEM_CALLS,
        inputs={"calls": [list(call) for call in CALLS]},
        read=_read_system_calls,
        fix="boot a kernel with seccomp filters (CONFIG_SECCOMP_FILTER=y); until then run no code that you don't trust",
    ),
    Guarantee(
        id="supervisor",
        subject="privileges",
        promise="the first process of the sandbox is out of the code's reach",
        code=SUPERVISOR,
        read=_read_supervisor,
    ),
    Guarantee(
        id="javascript",
        subject="privileges",
        promise="JavaScript has the language and nothing of the system",
        language="javascript",
        code=JAVASCRIPT,
        read=_read_javascript,
    ),
)
