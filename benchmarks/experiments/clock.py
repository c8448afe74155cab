"""Time that other programs on the machine do not count in."""

from __future__ import annotations

import os

import psutil


def core_seconds() -> float:
    """Return the seconds of one core that this process and its children have used."""
    mine = os.times()
    running = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    ended = mine.children_user + mine.children_system
    return mine.user + mine.system + ended + sum(times.user + times.system for times in running)
