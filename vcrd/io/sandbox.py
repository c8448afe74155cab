"""A sandbox for programs that a model wrote: bubblewrap around one Python, a box a program.

Guaranteed, and probed before anything runs: no network; nothing of the host's files but the system's libraries and
one Python, read-only; no environment; writes only to a small scratch folder that is gone afterwards; bounded wall and
CPU time, memory, processes and file size; nothing outlives its box. A pass counts only with a token that the tests'
process prints after the last test. The program is in a process of its own that never sees the token or the tests
(`sandbox_guest`).

Not guaranteed: secrecy of the Python installation itself; protection against a hole in the kernel. Memory is bounded
per process; all of a box may take `processes` times as much.
"""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt

from vcrd.errors import ConfigError

_SCRATCH = "/tmp"  # noqa: S108 - of the box: an empty folder in memory
_NOBODY = 65534
_SYSTEM = Path("/usr/bin/python3")
_GUEST = Path(__file__).with_name("sandbox_guest.py")
_BOOT = """
import marshal, os
def take(count):
    data = b""
    while len(data) < count:
        data += os.read(0, count - len(data))
    return data
exec(marshal.loads(take(int.from_bytes(take(4), "little"))))
"""
_SHOWN = 300
_REMEDY = (
    "install bubblewrap, and as root util-linux (scripts/system_packages.sh does), and allow unprivileged user "
    "namespaces; on Ubuntu 24.04 and later that takes an AppArmor profile for bwrap, in a container "
    "--security-opt seccomp=unconfined"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What a program may use."""

    wall_seconds: Annotated[float, Gt(0)] = 10.0
    """Until its box is killed, whatever it does."""
    cpu_seconds: Annotated[int, Ge(1)] = 8
    """Per process."""
    memory_bytes: Annotated[int, Ge(64 << 20)] = 512 << 20
    """Address space per process."""
    file_bytes: Annotated[int, Ge(0)] = 8 << 20
    """Per file."""
    scratch_bytes: Annotated[int, Ge(4096)] = 32 << 20
    """The one folder that can be written, in memory."""
    processes: Annotated[int, Ge(2)] = 16
    """Processes and threads of a box, the two of the sandbox included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A whole program, the source of tests with their calls, and the name that the program must define."""

    code: str
    tests: str
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """Whether all tests passed; else a reason that begins with failed, error, ended or timeout."""

    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs programs with their tests."""

    limits: SandboxLimits = SandboxLimits()

    def run(self, program: Program) -> ProgramResult:
        """Run one program.

        Raises:
            ConfigError: There is no sandbox on this machine that holds.
        """
        probe()
        return self._run(program)

    def run_many(
        self,
        programs: Sequence[Program],
        workers: int | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[ProgramResult]:
        """Run programs side by side, one a core unless `workers` says otherwise; results in their order."""
        probe()
        results = []
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            for result in pool.map(self._run, programs):
                results.append(result)
                progress(1)
        return results

    def _run(self, program: Program) -> ProgramResult:
        token = secrets.token_hex(16).encode()
        limits = self.limits
        bounds = struct.pack("<4Q", limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.processes)
        texts = [text.encode("utf-8", "replace") for text in (program.code, program.entry_point or "", program.tests)]
        frames = b"".join(struct.pack("<I", len(part)) + part for part in (bounds, *texts, token))
        try:
            done = _start(_BOOT, _compiled_guest() + frames, limits)
        except subprocess.TimeoutExpired:
            return ProgramResult(False, f"timeout: longer than {limits.wall_seconds:g} s")
        if done.returncode == 0 and done.stdout == token:
            return ProgramResult(True, "passed")
        said = done.stdout.decode("utf-8", "replace")[:_SHOWN]
        return ProgramResult(False, said or f"ended: {_of_exit(done)}")


@cache
def _compiled_guest() -> bytes:
    """Return the guest as a frame of byte code, made by the Python that will run it: compiling it each time is dear."""
    compiler = "import marshal, sys; guest = compile(sys.stdin.read(), 'guest', 'exec', optimize=2); "
    compiler += "sys.stdout.buffer.write(marshal.dumps(guest))"
    command = [str(guest_python()), "-I", "-S", "-c", compiler]
    done = subprocess.run(command, input=_GUEST.read_bytes(), capture_output=True, check=True, env={})
    return struct.pack("<I", len(done.stdout)) + done.stdout


def _of_exit(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
    return f"exit code {done.returncode}" + (f", {said}" if said else "")


def _start(guest: str, frames: bytes, limits: SandboxLimits) -> subprocess.CompletedProcess[bytes]:
    """Run Python source in a box; the launcher too has no environment, for the guest may read that of process 1."""
    return subprocess.run(
        [*_box(limits.scratch_bytes), str(guest_python()), "-I", "-S", "-c", guest],
        input=frames,
        capture_output=True,
        timeout=limits.wall_seconds,
        check=False,
        env={},
        cwd="/",
    )


@cache
def _box(scratch_bytes: int) -> list[str]:
    """Return the command that opens a box: every writable place has a size, every other one is read-only."""
    command = [_installed("bwrap"), "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
    command += ["--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", _SCRATCH]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        place = Path("/", name)
        if place.is_symlink():
            command += ["--symlink", f"usr/{name}", str(place)]
        elif place.is_dir():
            command += ["--ro-bind", str(place), str(place)]
    prefix = _prefix(guest_python())
    if not prefix.is_relative_to("/usr"):
        command += ["--ro-bind", str(prefix), str(prefix)]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", "65536", "--tmpfs", "/dev/shm"]  # noqa: S108 - of the box
    command += ["--size", str(scratch_bytes), "--tmpfs", _SCRATCH, "--chdir", _SCRATCH]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--cap-drop", "ALL", "--"]
    return [*_as_nobody(), *command]


def _as_nobody() -> list[str]:
    """Return the command that gives up root, which no limit of processes binds.

    A command, as `subprocess` itself can change the user only by copying this process, whose memory a model fills.
    """
    if os.geteuid() != 0:
        return []
    return [_installed("setpriv"), f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--"]


def _installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"programs run only in a sandbox, and {program} is not installed: {_REMEDY}")
    return found


@cache
def guest_python() -> Path:
    """Return this Python where the box can reach it, else the system's."""
    mine = Path(os.path.realpath(sys.executable))
    folders = [mine, *mine.parents]
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in folders):
        return mine
    if _SYSTEM.exists():
        return Path(os.path.realpath(_SYSTEM))
    raise ConfigError(
        f"the sandbox needs a Python that every user may run: {mine} is not one, and there is no {_SYSTEM}"
    )


def _prefix(python: Path) -> Path:
    return python.parent.parent


_PROBE = """
import os, socket, sys
assert set(os.environ) <= {"PATH", "HOME", "PWD", "LC_CTYPE"}, "environment"
assert os.listdir("/proc/self/fd") is not None
for place in ("/", "/usr", "/dev", "/proc"):
    try:
        open(place + "/vcrd-probe", "w").close()
        sys.exit(place + " can be written")
    except OSError:
        pass
for place in ("/home", "/root", "/etc/passwd"):
    if os.path.exists(place):
        sys.exit(place + " can be seen")
try:
    socket.create_connection(("127.0.0.1", int(sys.stdin.readline())), timeout=1)
    sys.exit("the network can be reached")
except OSError:
    pass
import ctypes
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0:
    sys.exit("user namespaces can be made")
import resource
resource.setrlimit(resource.RLIMIT_NPROC, (8, 8))
children = []
try:
    for _ in range(64):
        child = os.fork()
        if child == 0:
            import time
            time.sleep(5)
            os._exit(0)
        children.append(child)
    sys.exit("processes are not bounded")
except BlockingIOError:
    pass
for child in children:
    os.kill(child, 9)
sys.stdout.write("holds")
sys.stdout.flush()
os._exit(0)
"""


@cache
def probe() -> None:
    """Make sure, once a process, that a box holds.

    Raises:
        ConfigError: It does not; says what fails and what to install.
    """
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"{server.getsockname()[1]}\n".encode()
        try:
            done = _start(_PROBE, port, SandboxLimits(wall_seconds=30.0))
        except subprocess.TimeoutExpired:
            raise ConfigError(f"the sandbox does not answer; {_REMEDY}") from None
    if done.returncode != 0 or done.stdout != b"holds":
        said = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
        raise ConfigError(f"the sandbox does not hold ({said or done.returncode}): {_REMEDY}")
