"""Progress for people: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from vcrd.io.meter import note

_LINE_SECONDS = 30.0


def say(line: str) -> None:
    """Write a line on standard error, above a bar that is shown there."""
    tqdm.write(line, file=sys.stderr)


class Progress:
    """Counts units of work, and tokens beside them, on standard error."""

    def __init__(self, label: str, total: int, unit: str = "row") -> None:
        """Start with nothing done of `total`."""
        self._label, self._total, self._unit = label, total, unit
        self._done = self._tokens = 0
        self._started = self._last_line = time.monotonic()
        self._steady: tuple[int, float] | None = None
        self._bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._bar is not None:
            self._bar.close()

    def close(self) -> None:
        """Finish the bar, or say how it ended."""
        if self._steady is not None and self._done > self._steady[0]:
            first, since = self._steady
            took = (time.monotonic() - since) * self._done / (self._done - first)
            note("progress", label=self._label, units=self._done, seconds=took)
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()

    def advance(self, units: int = 0, tokens: int = 0) -> None:
        """Add work done since the last call."""
        self._done += units
        self._tokens += tokens
        now = time.monotonic()
        if units and self._steady is None:
            self._steady = self._done, now  # the first ones pay for what is made once
        if self._bar is not None:
            if tokens:
                self._bar.set_postfix_str(f"{self._rate(now)} tokens/s", refresh=False)
            self._bar.update(units)
        elif now - self._last_line > _LINE_SECONDS:
            self._last_line = now
            self._print_line()

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return self._tokens

    def advance_tokens(self, tokens: int) -> None:
        """Add tokens."""
        self.advance(tokens=tokens)

    def _rate(self, now: float) -> int:
        return round(self._tokens / max(now - self._started, 1e-9))

    def _print_line(self) -> None:
        now = time.monotonic()
        elapsed = now - self._started
        left = (
            f", about {elapsed / self._done * (self._total - self._done):.0f} s left"
            if 0 < self._done < self._total
            else ""
        )
        tokens = f", {self._rate(now)} tokens/s" if self._tokens else ""
        sys.stderr.write(f"{self._label}: {self._done}/{self._total} {self._unit}s in {elapsed:.0f} s{tokens}{left}\n")
        sys.stderr.flush()
