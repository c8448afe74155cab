"""Programs that reach for what is not theirs: network, files, other processes, other rights.

`answer()` is true only where the attack had success.

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
