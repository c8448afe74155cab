"""Programs that take too much: memory, processes, time, output. Facts as in `hostile_programs`."""

from __future__ import annotations

GREEDY = {
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
}
