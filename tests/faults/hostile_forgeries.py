"""Programs that pretend to be right, and pairs of which the first leaves something for the second.

The answers that would pass are known to the tests alone. Facts as in `hostile_programs`.
"""

from __future__ import annotations

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
    "a value that is what is wanted in every comparison": """
class Any:
    def __getattr__(self, name):
        return lambda *a: True
    def __lt__(self, other):
        return True
    __le__ = __gt__ = __ge__ = __eq__ = __contains__ = __lt__
    __hash__ = None
    def __sub__(self, other):
        return 0
    __rsub__ = __add__ = __radd__ = __sub__
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
