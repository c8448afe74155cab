"""What a run will take: from what a probe measured, or from work and speeds that are given.

Work goes up with the problems of the splits that a stage works on; what does not read problems stays. An engine's call
takes `passes * a + requests * b` seconds, a pass being a full batch or what is left over; `a` and `b` come from calls
of unequal size. Starting a stage costs the same in a probe and in a run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.engines import EngineParams
from pipeline.params import Settings
from pipeline.probe import Call, Probe, StageProbe
from vcrd.errors import ConfigError, did_you_mean

SURE = 1.96
"""Standard errors on each side of a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What one stage of a run will take.

    Attributes:
        stage: Its name.
        output: Its artefact.
        role: Whose model answers; None where no role's does.
        sharded: Whether workers share the work; else it is one process.
        requests: To its engine.
        read: Tokens of these, whether or not an engine finds them computed.
        written: Tokens that an engine generates, or that a training learns.
        rows: Of its artefact; None where that is not known.
        data_bytes: Of its artefact; None where that is not known.
        start: Seconds before and behind the work, whatever the workers.
        worked: Seconds of work, of all workers together; None where no speed is known.
    """

    stage: str
    output: str
    role: str | None = None
    sharded: bool = True
    requests: int = 0
    read: int = 0
    written: int = 0
    rows: int | None = None
    data_bytes: int | None = None
    start: float = 0.0
    worked: float | None = None

    def seconds(self, workers: int, shards: int) -> float:
        """Return the time on the clock: shards of equal length, taken in turn by the workers."""
        turns = math.ceil(shards / workers) / shards if self.sharded else 1.0
        return self.start + (self.worked or 0.0) * turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will take.

    Attributes:
        preset: Of the run.
        problems: By split.
        shards: Of an artefact.
        workers: Of the run.
        unit: What a worker occupies: "core" or "GPU", and how many.
        stages: In their order.
        error: Half of the 95 % interval of all tokens, over them: what sampling problems leaves open; None where no
            sample was taken.
        assumed: What the figures rest on, in sentences.
    """

    preset: str
    problems: Mapping[str, int]
    shards: int
    workers: int
    unit: tuple[int, str]
    stages: Sequence[StagePlan]
    error: float | None
    assumed: Sequence[str]

    @classmethod
    def of(
        cls,
        settings: Settings,
        problems: Mapping[str, int],
        stages: Sequence[StagePlan],
        error: float | None,
        assumed: Sequence[str],
    ) -> Plan:
        """Put a plan together for a run's parameters."""
        run = settings.run
        shared = f"{run.num_shards} shards of equal length, dealt to the workers in turn; other stages are one process."
        lost = "No worker is lost and nothing is made twice; what DVC itself takes is not counted."
        return cls(
            preset=settings.preset,
            problems=problems,
            shards=run.num_shards,
            workers=run.workers,
            unit=_unit(settings),
            stages=stages,
            error=error,
            assumed=[*assumed, shared, lost],
        )

    @property
    def tokens(self) -> int:
        """Read and written, by all engines and trainings."""
        return sum(stage.read + stage.written for stage in self.stages)

    def seconds(self, workers: int | None = None) -> float:
        """Time on the clock of all stages, one after another, with the run's workers or other ones."""
        return sum(stage.seconds(workers or self.workers, self.shards) for stage in self.stages)

    def hours(self, stage: StagePlan) -> float:
        """Core- or GPU-hours of a stage's work."""
        return (stage.worked or 0.0) * self.unit[0] / 3600

    def dominant(self) -> str:
        """Name the stage with the most work."""
        return max(self.stages, key=lambda stage: stage.worked or 0.0).stage

    def longest(self, workers: int) -> str:
        """Name the stage that takes longest on the clock."""
        return max(self.stages, key=lambda stage: stage.seconds(workers, self.shards)).stage


def plan_from_probe(probe: Probe, settings: Settings, problems: int | None, batch: int) -> Plan:
    """Extrapolate.

    Args:
        probe: What was measured.
        settings: Of the run.
        problems: Of the run; None: as many as the probe found.
        batch: Requests that an engine has in hand at a time.

    Raises:
        ConfigError: There are fewer problems than were measured.
    """
    found, sampled = sum(probe.problems.values()), len(probe.sample)
    if problems is not None and problems < sampled:
        raise ConfigError(f"--problems {problems}: the probe measured {sampled}; give more, or a smaller --probe")
    sizes = {split: round(count * (problems or found) / found) for split, count in probe.problems.items()}
    stages = [_grown(stage, probe, sizes, settings.run.num_shards, batch) for stage in probe.stages]
    return Plan.of(settings, sizes, stages, _sampling_error(probe, sizes), _assumptions(probe))


def _unit(settings: Settings) -> tuple[int, str]:
    """Return what a worker occupies: so many cores or GPUs."""
    engine = next((section for section in settings.sections.values() if isinstance(section, EngineParams)), None)
    if engine is None or engine.device == "cpu":
        return (engine.threads if engine else 1), "core"
    return engine.tensor_parallel_size, "GPU"


def read_amounts(text: str, option: str, known: Collection[str] = ()) -> dict[str, float]:
    """Read `name=number,name=number`; where names are `known`, there is no other.

    Raises:
        ConfigError: It is something else, or a number is below 0.
    """
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ConfigError(f"{option}: expected name=number,name=number, got {part!r}") from None
        if known and name.strip() not in known:
            raise ConfigError(f"{option}: unknown {name.strip()!r}{did_you_mean(name.strip(), known)}")
        if not 0 <= found[name.strip()] < math.inf:
            raise ConfigError(f"{option}: {name.strip()} must be a number from 0 on, got {number}")
    return found


def read_workers(text: str) -> list[int]:
    """Read `1,8,64`.

    Raises:
        ConfigError: It is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"--workers: expected counts above 0 such as 1,8,64, got {text!r}")
    return [int(part) for part in parts]


def with_speeds(plan: Plan, speeds: Mapping[str, float]) -> Plan:
    """Put given tokens/s of a worker in the place of measured times.

    What a stage writes is divided by its speed; of a stage that writes nothing, what it reads. A stage's own name goes
    before its role's.

    Raises:
        ConfigError: A speed is 0, or of no stage that has tokens and no role.
    """
    asked = [stage for stage in plan.stages if stage.written or stage.read]
    known = list(dict.fromkeys([*(stage.role for stage in asked if stage.role), *(stage.stage for stage in asked)]))
    for name, speed in speeds.items():
        if name not in known:
            raise ConfigError(
                f"--tokens-per-second: no role or stage with tokens is called {name!r}{did_you_mean(name, known)}; "
                f"there are {', '.join(known)}"
            )
        if not speed:
            raise ConfigError(f"--tokens-per-second: {name} must be above 0")
    stages = []
    for stage in plan.stages:
        speed, amount = speeds.get(stage.stage, speeds.get(stage.role or "", 0.0)), stage.written or stage.read
        stages.append(replace(stage, worked=amount / speed) if speed and amount else stage)
    told = ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items())
    given = [f"Tokens/s of a worker as given: {told}; of what is written, or read where nothing is."] if speeds else []
    return replace(plan, stages=stages, assumed=[*plan.assumed, *given])


def pass_and_request_seconds(calls: Sequence[Call], batch: int) -> tuple[float, float]:
    """Return what a pass and what a request cost, by least squares over calls; neither is below 0.

    >>> calls = [Call(4, 2.4, False), Call(12, 3.2, True)]
    >>> [round(value, 6) for value in pass_and_request_seconds(calls, 128)]
    [2.0, 0.1]
    """
    passes = [math.ceil(call.requests / batch) for call in calls]
    pp = sum(count * count for count in passes)
    rr = sum(call.requests**2 for call in calls)
    pr = sum(count * call.requests for count, call in zip(passes, calls, strict=True))
    pt = sum(count * call.seconds for count, call in zip(passes, calls, strict=True))
    rt = sum(call.requests * call.seconds for call in calls)
    both = pp * rr - pr * pr
    a, b = ((rr * pt - pr * rt) / both, (pp * rt - pr * pt) / both) if both else (0.0, 0.0)
    if both and a >= 0 and b >= 0:
        return a, b
    return (0.0, rt / rr) if b > 0 or not both else (pt / pp, 0.0)


def _grown(stage: StageProbe, probe: Probe, sizes: Mapping[str, int], shards: int, batch: int) -> StagePlan:
    requests, read, written = (_total(stage, probe, sizes, place) for place in range(3))
    rows = stage.all_rows * _growth(stage, probe, sizes, stage.rows or _requests(stage))
    worked = _worked(stage, probe, sizes, shards, batch)
    files = shards if stage.file_bytes and stage.grows else 1
    data = stage.data_bytes * (rows / stage.all_rows if stage.all_rows else 1.0) + files * stage.file_bytes
    return StagePlan(
        stage=stage.stage,
        output=stage.output,
        role=stage.role,
        sharded=stage.sharded,
        requests=round(requests),
        read=round(read),
        written=round(written),
        rows=round(rows),
        data_bytes=round(data),
        start=stage.start,
        worked=worked,
    )


def _total(stage: StageProbe, probe: Probe, sizes: Mapping[str, int], place: int) -> float:
    sampled = probe.sampled
    return sum(amounts[place] * _weight(probe.sample[name], sizes, sampled) for name, amounts in stage.asked.items())


def _requests(stage: StageProbe) -> dict[str, int]:
    return {name: amounts[0] for name, amounts in stage.asked.items()}


def _weight(split: str, sizes: Mapping[str, int], sampled: Mapping[str, int]) -> float:
    return sizes[split] / sampled[split]


def _growth(stage: StageProbe, probe: Probe, sizes: Mapping[str, int], amounts: Mapping[str, float]) -> float:
    """Return how many times its work in the probe a stage has in the run, by what it did for problems of each split."""
    if not stage.grows:
        return 1.0
    sampled = probe.sampled
    known = {name: amount for name, amount in amounts.items() if name in probe.sample}
    if sum(known.values()):
        return sum(amount * _weight(probe.sample[name], sizes, sampled) for name, amount in known.items()) / sum(
            known.values()
        )
    mine = [split for split in sampled if not stage.splits or split in stage.splits]
    counted = sampled if stage.sampled else probe.problems
    return sum(sizes[split] for split in mine) / max(sum(counted[split] for split in mine), 1)


def _worked(stage: StageProbe, probe: Probe, sizes: Mapping[str, int], shards: int, batch: int) -> float:
    growth = _growth(stage, probe, sizes, _requests(stage) or stage.rows)
    pieces = shards if stage.sharded else 1
    if not stage.calls:
        return stage.worked * growth + stage.commit * pieces
    a_pass, a_request = pass_and_request_seconds(stage.calls, batch)
    times = growth * stage.shards / pieces
    answered, together = 0.0, 0
    for call in stage.calls:
        together += call.requests
        if call.last:
            answered += a_pass * math.ceil(together * times / batch) + a_request * together * times
            together = 0
    beside = max(stage.worked - sum(call.seconds for call in stage.calls), 0.0)
    return answered * pieces / stage.shards + beside * growth + stage.commit * pieces


def _sampling_error(probe: Probe, sizes: Mapping[str, int]) -> float:
    """Return half of the 95 % interval of all tokens over them, from what problems of one split differ by."""
    by_problem = dict.fromkeys(probe.sample, 0)
    for stage in probe.stages:
        for name, (_, read, written) in stage.asked.items():
            by_problem[name] += read + written
    total = variance = 0.0
    for split, count in probe.sampled.items():
        values = [by_problem[name] for name, mine in probe.sample.items() if mine == split]
        mean = sum(values) / count
        spread = sum((value - mean) ** 2 for value in values) / max(count - 1, 1)
        total += sizes[split] * mean
        variance += sizes[split] ** 2 * spread / count * max(1 - count / max(sizes[split], 1), 0.0)
    return SURE * math.sqrt(variance) / total if total else 0.0


def _assumptions(probe: Probe) -> list[str]:
    ends = [f"{stage.stage} {stage.ended:.0%}" for stage in probe.stages if stage.ended is not None]
    sampled = ", ".join(f"{count} {split}" for split, count in sorted(probe.sampled.items()))
    return [
        f"Measured on this machine, on {sampled} problems, with the run's own workers.",
        "Of what was written, ended before its limit: " + (", ".join(ends) or "nothing was written") + ".",
    ]


def plan_figures(plan: Plan, workers: Sequence[int]) -> dict[str, Any]:
    """Return a plan for scripts."""
    return {
        "preset": plan.preset,
        "problems": dict(plan.problems),
        "num_shards": plan.shards,
        "workers": plan.workers,
        "worker": {"count": plan.unit[0], "unit": plan.unit[1]},
        "tokens": plan.tokens,
        "tokens_error": plan.error,
        "seconds": round(plan.seconds(), 1),
        "seconds_by_workers": {str(count): round(plan.seconds(count), 1) for count in workers},
        "dominant": plan.dominant(),
        "longest_by_workers": {str(count): plan.longest(count) for count in workers},
        "bytes": sum(stage.data_bytes or 0 for stage in plan.stages),
        "stages": [
            asdict(stage) | {"hours": plan.hours(stage), "seconds": round(stage.seconds(plan.workers, plan.shards), 3)}
            for stage in plan.stages
        ],
        "assumed": list(plan.assumed),
    }


def plan_text(plan: Plan, workers: Sequence[int]) -> str:
    """Return a plan as tables for a terminal."""
    unit = f"{plan.unit[1]}-h"
    head = f"{'stage':<21}{'requests':>10}{'read':>9}{'written':>9}{'rows':>9}{'bytes':>9}{unit:>9}"
    head += "".join(f"{f'{count:,} w.':>10}" for count in workers)
    lines = [f"{plan.preset}: {sum(plan.problems.values()):,} problems ({_told(plan.problems)})", "", head]
    for stage in plan.stages:
        amounts = f"{short(stage.requests):>10}{short(stage.read):>9}{short(stage.written):>9}"
        sizes = f"{short(stage.rows):>9}{short(stage.data_bytes):>9}"
        hours = "-" if stage.worked is None else f"{plan.hours(stage):,.3g}"
        clock = "".join(
            f"{'-' if stage.worked is None else duration(stage.seconds(count, plan.shards)):>10}" for count in workers
        )
        lines.append(f"{stage.stage:<21}{amounts}{sizes}{hours:>9}{clock}")
    sums = [sum(getattr(stage, name) or 0 for stage in plan.stages) for name in ("requests", "read", "written")]
    total = "".join(f"{short(value):>{width}}" for value, width in zip(sums, (10, 9, 9), strict=True))
    bytes_ = short(sum(stage.data_bytes or 0 for stage in plan.stages))
    hours = f"{sum(plan.hours(stage) for stage in plan.stages):,.3g}"
    clock = "".join(f"{duration(plan.seconds(count)):>10}" for count in workers)
    lines += [f"{'in all':<21}{total}{'':>9}{bytes_:>9}{hours:>9}{clock}", ""]
    if plan.error is not None:
        lines.append(f"tokens: {short(plan.tokens)} ± {plan.error:.1%} (95 %, what sampling problems leaves open)")
    lines.append(f"a worker: {plan.unit[0]} {plan.unit[1]}{'s' * (plan.unit[0] > 1)}")
    lines.append(f"most work: {plan.dominant()}")
    lines += [f"longest on the clock with {count:,} workers: {plan.longest(count)}" for count in workers]
    if unknown := [stage.stage for stage in plan.stages if stage.worked is None]:
        lines.append(f"not in the times, for no speed is known: {', '.join(unknown)}")
    if max(workers) > plan.shards:
        lines.append(f"no more than {plan.shards} workers have a shard at a time: raise run.num_shards")
    return "\n".join([*lines, *(f"- {sentence}" for sentence in plan.assumed)])


def _told(problems: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in problems.items() if count)


def short(value: float | None) -> str:
    """Return a count in at most 6 characters.

    >>> short(950), short(12_345), short(3.2e12), short(None)
    ('950', '12.3k', '3.2T', '-')
    """
    if value is None:
        return "-"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(42), duration(750), duration(2 * 3600 + 59), duration(90 * 3600)
    ('42 s', '12.5 min', '2.0 h', '3.8 d')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size or (unit == "min" and seconds >= 60):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
