"""Hostile programs, and whether the sandbox contains them: as this user and, started by root, as an ordinary one.

Each defines `answer()`, which is true only where its attack had success; what must not happen on the host is looked
for from outside: a touched canary, a connection, a process left behind, time beyond the bound.
`tests/faults/test_hostile.py` and `python -m benchmarks.sandbox` run them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.hostile_forgeries import FORGERIES, PAIRS
from tests.faults.hostile_greed import GREEDY
from tests.faults.hostile_programs import PROGRAMS
from vcrd.io.sandbox import Program, Sandbox, SandboxLimits, guest_python

LIMITS = SandboxLimits(
    wall_seconds=4.0,
    cpu_seconds=2,
    memory_bytes=256 << 20,
    file_bytes=1 << 20,
    scratch_bytes=4 << 20,
    processes=16,
)
GRACE_SECONDS = 4.0
ORDINARY = 12345
_NAMES = ("root", "an ordinary user")
_ROOT = Path(__file__).parents[2]


def users() -> list[str]:
    """Return as whom the programs can be run here."""
    return list(_NAMES) if os.geteuid() == 0 else [_NAMES[1]]


def contained(user: str) -> dict[str, str]:
    """Run every program as a user; return why it is not contained, or an empty string."""
    if (user == _NAMES[0]) == (os.geteuid() == 0):
        return attack()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        _copy_suite(place)
        command = [
            str(guest_python()),
            "-c",
            "import json; from tests.faults.hostile import attack; print(json.dumps(attack()))",
        ]
        done = subprocess.run(
            command,
            cwd=place,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": folder, "HOME": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            user=ORDINARY,
            group=ORDINARY,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _copy_suite(place: Path) -> None:
    """Copy what the suite needs to where every user can read it."""
    import annotated_types

    shutil.copytree(Path(annotated_types.__file__).parent, place / "annotated_types")
    parts = [
        "vcrd/__init__.py",
        "vcrd/errors.py",
        "vcrd/io/__init__.py",
        "vcrd/io/sandbox.py",
        "vcrd/io/sandbox_guest.py",
    ]
    suite = [f"tests/faults/{path.name}" for path in Path(__file__).parent.glob("hostile*.py")]
    for part in [*parts, *suite]:
        target = place / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ROOT / part, target)
    for path in [*place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def attack() -> dict[str, str]:
    """Run every program as this user."""
    secret = f"secret-{secrets.token_hex(8)}"
    marker = f"vcrd-left-{secrets.token_hex(8)}"
    os.environ["VCRD_HOSTILE_SECRET"] = secret
    with tempfile.TemporaryDirectory() as folder, _listening() as (port, name, heard):
        Path(folder).chmod(0o777)
        canary = Path(folder, "canary")
        canary.write_text(secret)
        canary.chmod(0o666)
        facts = {
            "PORT": port,
            "SOCKET": name,
            "SECRET": secret[:7],
            "CANARY": str(canary),
            "MARKER": marker,
            "HOME": str(Path.home()),
        }
        found = _run_all(facts)
        if canary.read_text() != secret or len(list(Path(folder).iterdir())) != 1:
            found["the host's files are untouched"] = f"{folder} was written to"
        if heard():
            found["the host hears nothing"] = "a connection or a datagram arrived"
    if left := _processes_with(marker):
        found["no process is left behind"] = f"processes {left}"
    return found


def _run_all(facts: dict[str, object]) -> dict[str, str]:
    head = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
    sandbox = Sandbox(LIMITS)

    def judge(item: tuple[str, str, str]) -> tuple[str, str]:
        name, code, tests = item
        started = time.monotonic()
        result = sandbox.run(Program(code=head + code, tests=tests))
        took = time.monotonic() - started
        if result.passed:
            return name, "its attack had success"
        return name, f"took {took:.1f} s" if took > LIMITS.wall_seconds + GRACE_SECONDS else ""

    jobs = [(name, code, "assert answer()") for name, code in {**PROGRAMS, **GREEDY}.items()]
    for name, code in FORGERIES.items():
        # Only the tests know what is right.
        jobs.append((name, code, f"assert answer() == {secrets.token_hex(8)!r}"))
    with ThreadPoolExecutor(2) as pool:
        found = dict(pool.map(judge, jobs))
    for name, (first, second) in PAIRS.items():
        sandbox.run(Program(code=head + first, tests="answer()"))
        found[name] = judge((name, second, "assert answer()"))[1]
    found["the host's files are untouched"] = found["the host hears nothing"] = found["no process is left behind"] = ""
    return found


@contextlib.contextmanager
def _listening() -> Iterator[tuple[int, str, Callable[[], bool]]]:
    """Listen on TCP, UDP and an abstract socket; the last value tells whether anything came."""
    name = f"vcrd-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as local,
    ):
        udp.bind(("127.0.0.1", tcp.getsockname()[1]))
        local.bind(f"\0{name}")
        local.listen()

        def heard() -> bool:
            for place in (tcp, local, udp):
                place.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    place.recv(1) if place is udp else place.accept()
                    return True
            return False

        yield tcp.getsockname()[1], name, heard


def _processes_with(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(attack(), indent=1) + "\n")
