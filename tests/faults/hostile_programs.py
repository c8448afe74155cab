"""The hostile programs themselves. `answer()` is true only where the attack had success.

Facts that are put in front of each: PORT, SOCKET (listeners on the host), SECRET (how the host's secret begins), CANARY
(a file on the host that all may write), MARKER (for processes to leave behind), HOME (the host user's).
"""

from __future__ import annotations

PROGRAMS = {
    # network
    "tcp to the host": """
import socket
def answer():
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=1)
        return True
    except OSError:
        return False
""",
    "tcp to the internet": """
import socket
def answer():
    try:
        socket.create_connection(("8.8.8.8", 53), timeout=1)
        return True
    except OSError:
        return False
""",
    "udp to the host": """
import socket
def answer():
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT)) and False
    except OSError:
        return False
""",
    "name resolution": """
import socket
def answer():
    try:
        return bool(socket.getaddrinfo("example.org", 80))
    except OSError:
        return False
""",
    "abstract unix socket": """
import socket
def answer():
    try:
        socket.socket(socket.AF_UNIX).connect(chr(0) + SOCKET)
        return True
    except OSError:
        return False
""",
    "network interfaces": """
import socket
def answer():
    return any(name != "lo" for _, name in socket.if_nameindex())
""",
    "raw packets": """
import socket
def answer():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        return True
    except OSError:
        return False
""",
    "service sockets": """
import os
def answer():
    places = ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus", "/run/systemd", "/run/user")
    return any(os.path.exists(place) for place in places)
""",
    # reading
    "home folders": """
import os
def answer():
    return any(os.path.exists(p) for p in ("/home", "/root", HOME) if p != "/tmp")
""",
    "account files": """
import os
def answer():
    return any(os.path.exists(p) for p in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/var"))
""",
    "own environment": """
import os
def answer():
    return any(SECRET in value for value in os.environ.values()) or "VCRD_HOSTILE_SECRET" in os.environ
""",
    "environments of all processes": """
import glob
def answer():
    for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/task/*/environ"):
        try:
            if b"VCRD_HOSTILE_SECRET" in open(path, "rb").read():
                return True
        except OSError:
            pass
    return False
""",
    "processes of the host": """
import glob
def answer():
    return len(glob.glob("/proc/[0-9]*")) > 8
""",
    "roots and working folders of processes": """
import glob
def answer():
    for path in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd"):
        try:
            open(path + CANARY).read()
            return True
        except OSError:
            pass
    return False
""",
    "the canary": """
def answer():
    try:
        return bool(open(CANARY).read())
    except OSError:
        return False
""",
    "kernel memory and settings": """
def answer():
    for path, mode in (
        ("/proc/kcore", "rb"), ("/dev/mem", "rb"), ("/dev/kmsg", "rb"), ("/proc/sysrq-trigger", "w"),
        ("/proc/sys/kernel/core_pattern", "w"), ("/proc/sys/kernel/hostname", "w"),
    ):
        try:
            with open(path, mode) as file:
                return bool(file.read(1)) if mode == "rb" else True
        except OSError:
            pass
    return False
""",
    "devices of the host": """
import os
def answer():
    harmless = "null zero full random urandom tty console fd stdin stdout stderr ptmx pts shm core"
    return bool(set(os.listdir("/dev")) - set(harmless.split())) or os.path.exists("/sys/class")
""",
    "making a device": """
import os, stat
def answer():
    try:
        os.mknod("/tmp/memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
        open("/tmp/memory", "rb").read(1)
        return True
    except OSError:
        return False
""",
    # writing
    "writing to the host": """
def answer():
    try:
        open(CANARY, "w").write("hacked")
        return True
    except OSError:
        return False
""",
    "writing to system folders": """
import os, sys
def answer():
    library = os.path.dirname(os.__file__)
    for place in ("/", "/usr", "/usr/bin", "/bin", "/lib", "/dev", "/proc", "/proc/self", sys.prefix, library):
        try:
            open(place + "/hacked", "w").write("x")
            return True
        except OSError:
            pass
    return False
""",
    "filling the scratch folder": """
def answer():
    written = 0
    try:
        for number in range(1000):
            with open(f"/tmp/{number}", "wb") as file:
                written += file.write(b"x" * 500_000)
    except OSError:
        pass
    return written > 8 << 20
""",
    "filling shared memory": """
def answer():
    written = 0
    try:
        for number in range(1000):
            with open(f"/dev/shm/{number}", "wb", buffering=0) as file:
                written += file.write(b"x" * 500_000)
    except OSError:
        pass
    return written > 8 << 20
""",
    "filling any folder": """
import os
def answer():
    written = 0
    for folder, _, _ in os.walk("/"):
        if folder.startswith(("/proc", "/tmp", "/dev/shm")):
            continue
        try:
            with open(folder + "/filler", "wb", buffering=0) as file:
                written += file.write(b"x" * 100_000)
        except OSError:
            pass
    return written > 0
""",
    "one great file": """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def answer():
    written = 0
    try:
        with open("/tmp/great", "wb", buffering=0) as file:
            for _ in range(64):
                written += file.write(b"x" * (1 << 20))
    except OSError:
        pass
    return written > 2 << 20
""",
    "files in memory": """
import os
def answer():
    written = 0
    try:
        for number in range(2000):
            written += os.write(os.memfd_create(str(number)), b"x" * (1 << 20))
    except OSError:
        pass
    return written > 256 << 20
""",
    "a symbolic link to the host": """
import os
def answer():
    os.symlink(CANARY, "/tmp/link")
    try:
        open("/tmp/link", "w").write("hacked")
        return True
    except OSError:
        return False
""",
    "a symbolic link into another process": """
import os
def answer():
    os.symlink(f"/proc/{os.getppid()}/root{CANARY}", "/tmp/link")
    try:
        open("/tmp/link", "w").write("hacked")
        return True
    except OSError:
        return False
""",
    "a program with another user's rights": """
import os, shutil
def answer():
    shutil.copy("/usr/bin/id", "/tmp/id")
    os.chmod("/tmp/id", 0o4755)
    try:
        os.chown("/tmp/id", 0, 0)
        return True
    except OSError:
        return False
""",
    # memory, processes, time
    "memory": """
def answer():
    try:
        return len(bytearray(1 << 30)) > 0
    except MemoryError:
        return False
""",
    "memory in small parts": """
def answer():
    parts = []
    try:
        while len(parts) < 1000:
            parts.append(bytearray(1 << 20))
    except MemoryError:
        pass
    return len(parts) > 256
""",
    "anonymous mappings": """
import mmap
def answer():
    try:
        mmap.mmap(-1, 2 << 30)
        return True
    except (OSError, MemoryError):
        return False
""",
    "a fork bomb": """
import os
def answer():
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
    "many processes": """
import os, time
def answer():
    made = 0
    try:
        for _ in range(200):
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            made += 1
    except OSError:
        pass
    return made > 16
""",
    "many threads": """
import threading, time
def answer():
    made = 0
    try:
        for _ in range(500):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            made += 1
    except (RuntimeError, MemoryError):
        pass
    return made > 16
""",
    "an endless loop": """
def answer():
    while True:
        pass
""",
    "an endless loop on import": """
while True:
    pass
""",
    "an endless sleep": """
import time
def answer():
    time.sleep(10_000)
""",
    "an endless loop that ignores signals": """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def answer():
    while True:
        pass
""",
    "a flood of output": """
import sys
def answer():
    while True:
        sys.stdout.write("x" * 65536)
        sys.stderr.write("x" * 65536)
""",
    "a flood on every descriptor": """
import os
def answer():
    while True:
        for number in range(64):
            try:
                os.write(number, b"x" * 65536)
            except OSError:
                pass
""",
    "endless recursion": """
import sys
sys.setrecursionlimit(10**9)
def deeper(n):
    return deeper(n + 1)
def answer():
    return deeper(0)
""",
    "a great answer": """
def answer():
    return ["x" * 1_000_000 for _ in range(150)] * 1000
""",
    "an endless answer": """
import itertools
def answer():
    return list(itertools.count())
""",
    "an answer that holds itself": """
def answer():
    loop = []
    loop.append(loop)
    return loop
""",
    "a higher priority": """
import os
def answer():
    try:
        os.nice(-10)
        return True
    except OSError:
        return False
""",
    "higher limits": """
import resource
def answer():
    for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        try:
            resource.setrlimit(name, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return True
        except (ValueError, OSError):
            pass
    return False
""",
    # other processes, other rights
    "a process left behind": """
import os, sys
def answer():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [MARKER, "-c", "import time; time.sleep(600)", MARKER])
        os._exit(0)
    return False
""",
    "killing everything": """
import os
def answer():
    os.kill(-1, 9)
""",
    "killing the tests": """
import os
def answer():
    os.kill(os.getppid(), 9)
""",
    "stopping the tests": """
import os, signal
def answer():
    os.kill(os.getppid(), signal.SIGSTOP)
""",
    "ptrace": """
import ctypes, os
def answer():
    return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0
""",
    "memory of the tests": """
import os
def answer():
    try:
        open(f"/proc/{os.getppid()}/mem", "rb")
        return True
    except OSError:
        return False
""",
    "memory of the tests by system call": """
import ctypes, os
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def answer():
    mine = ctypes.create_string_buffer(8)
    ours = Part(ctypes.addressof(mine), 8)
    theirs = Part(id(os), 8)
    return ctypes.CDLL(None).process_vm_readv(os.getppid(), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) > 0
""",
    "descriptors of the tests": """
import os
def answer():
    try:
        for name in os.listdir(f"/proc/{os.getppid()}/fd"):
            open(f"/proc/{os.getppid()}/fd/{name}", "wb")
            return True
    except OSError:
        pass
    return False
""",
    "user namespaces": """
import ctypes
def answer():
    return ctypes.CDLL(None).unshare(0x10000000) == 0
""",
    "mount namespaces": """
import ctypes
def answer():
    libc = ctypes.CDLL(None)
    return libc.unshare(0x00020000) == 0 or libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0
""",
    "remounting": """
import ctypes
def answer():
    return ctypes.CDLL(None).mount(None, b"/usr", None, 32 | 4096, None) == 0
""",
    "chroot": """
import os
def answer():
    try:
        os.chroot("/tmp")
        return True
    except OSError:
        return False
""",
    "becoming root": """
import os
def answer():
    for become in (os.setuid, os.setgid, os.seteuid):
        try:
            become(0)
            return True
        except OSError:
            pass
    return False
""",
    "typing into the terminal": """
import fcntl
def answer():
    try:
        with open("/dev/tty", "w") as terminal:
            fcntl.ioctl(terminal, 0x5412, b"x")
        return True
    except OSError:
        return False
""",
    "loading a kernel module or another kernel": """
import ctypes
def answer():
    libc = ctypes.CDLL(None)
    return libc.syscall(175, 0, 0, b"") == 0 or libc.syscall(169, 0xFEE1DEAD, 672274793, 0) == 0
""",
}

FORGERIES = {
    "leaving with success on import": "import os\nos._exit(0)\n",
    "leaving with success when asked": "import os\ndef answer():\n    os._exit(0)\n",
    "SystemExit": "import sys\ndef answer():\n    sys.exit(0)\n",
    "a value that equals everything": """
class Any:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    def __bool__(self):
        return True
    __hash__ = None
def answer():
    return Any()
""",
    "a string that equals everything": """
class Any(str):
    def __eq__(self, other):
        return True
    def __iter__(self):
        raise SystemExit(0)
def answer():
    return Any()
""",
    "a list that equals everything": """
class Any(list):
    def __eq__(self, other):
        return True
    def __iter__(self):
        return iter(())
def answer():
    return Any()
""",
    "a forged class": """
class Meta(type):
    def __instancecheck__(cls, other):
        return True
    def __eq__(cls, other):
        return True
    __hash__ = type.__hash__
class Any(metaclass=Meta):
    __class__ = str
    def __eq__(self, other):
        return True
def answer():
    return Any()
""",
    "forged tokens on every descriptor": """
import os
def answer():
    for number in range(64):
        for token in (b"passed", b"0" * 32, b"ok\\n"):
            try:
                os.write(number, token)
            except OSError:
                pass
    return ""
""",
    "forged frames to the tests": """
import os, struct
def answer():
    def text(value):
        return b"s" + struct.pack("<I", len(value)) + value
    frame = b"l" + struct.pack("<I", 3) + text(b"value") + text(b"") + b"l" + struct.pack("<I", 0)
    for number in range(3, 64):
        for _ in range(8):
            try:
                os.write(number, struct.pack("<I", len(frame)) + frame)
            except OSError:
                pass
    return ""
""",
    "asking the tests for their globals": """
import os, struct
def answer():
    frame = b"l" + struct.pack("<I", 3) + b"s" + struct.pack("<I", 8) + b"callback" + b"i" + struct.pack("<I", 1) + b"0"
    frame += b"l" + struct.pack("<I", 0)
    os.write(63, struct.pack("<I", len(frame)) + frame)
    return os.read(62, 4096).decode("latin-1")
""",
    "tests on standard input": """
import os
def answer():
    for path in ("/dev/stdin", "/proc/self/fd/0", f"/proc/{os.getppid()}/fd/0"):
        try:
            found = open(path, "rb").read()
            if found:
                return found[-17:-1].decode()
        except OSError:
            pass
    return ""
""",
    "tests in frames and objects": """
import gc, sys
def answer():
    found = []
    frame = sys._getframe()
    while frame:
        found += [value for value in list(frame.f_locals.values()) + list(frame.f_globals.values())]
        frame = frame.f_back
    found += gc.get_objects()
    for value in found:
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if isinstance(text, str) and "assert answer() == '" in text:
            return text.split("assert answer() == '")[1][:16]
    return ""
""",
    "tests in the command line": """
import glob
def answer():
    for path in glob.glob("/proc/*/cmdline"):
        try:
            found = open(path).read()
        except OSError:
            continue
        if "assert answer() == " in found:
            return found.split("assert answer() == '")[1][:16]
    return ""
""",
    "other built-ins": """
import builtins
class Never(Exception):
    pass
builtins.AssertionError = Never
builtins.print = builtins.len = builtins.isinstance = builtins.repr = lambda *a, **k: True
def answer():
    return ""
""",
    "hooks": """
import atexit, os, sys
atexit.register(lambda: os._exit(0))
sys.excepthook = lambda *a: os._exit(0)
sys.settrace(lambda *a: None)
def answer():
    raise AssertionError
""",
    "another interpreter in its place": """
import os, sys
def answer():
    os.execv(sys.executable, [sys.executable, "-c", "print('passed')"])
""",
}

PAIRS = {
    "files for the next program": (
        """
def answer():
    for place in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
        try:
            open(place + "/" + MARKER, "w").write("x")
        except OSError:
            pass
""",
        """
import os
def answer():
    return any(MARKER in files for _, _, files in os.walk("/") if True)
""",
    ),
    "shared memory for the next program": (
        """
import ctypes
def answer():
    return ctypes.CDLL(None).shmget(4242, 4096, 0o1666)
""",
        """
import ctypes
def answer():
    return ctypes.CDLL(None).shmget(4242, 4096, 0o666) >= 0
""",
    ),
    "a process for the next program": (
        """
import os, time
def answer():
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
""",
        """
import glob
def answer():
    return len(glob.glob("/proc/[0-9]*")) > 4
""",
    ),
    "changed modules for the next program": (
        """
import os, sys
def answer():
    for place in (os.path.dirname(os.__file__), sys.prefix, "/tmp"):
        try:
            open(place + "/statistics.py", "w").write("PATCHED = True")
        except OSError:
            pass
""",
        """
import statistics
def answer():
    return hasattr(statistics, "PATCHED")
""",
    ),
}
