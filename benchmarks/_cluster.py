"""A cluster in fast motion: shards of drawn lengths on workers of nodes that get lost, as the executor schedules them.

What is simulated is the scheduler's own rule: a free worker takes the next shard, a lost one costs the shard it was at,
and that goes to the next free one. Times are seconds.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the workers are like.

    Attributes:
        workers: GPUs, a worker each.
        per_node: Workers that are lost together.
        loss_per_hour: Probability that a node is lost within an hour.
        replace: From the loss of a node until another stands in its place.
        load: From a node to a loaded model.
        fixed: Of a shard, whatever is in it: dispatch, commit, and the engine running empty behind its last requests.
        slow_share: Share of nodes that take `slow_factor` times as long for everything.
        slow_factor: How much slower those are.
    """

    workers: int
    per_node: int = 8
    loss_per_hour: float = 0.01
    replace: float = 300.0
    load: float = 180.0
    fixed: float = 30.0
    slow_share: float = 0.01
    slow_factor: float = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: Until the last shard was finished.
        efficiency: Share of all workers' seconds that went into the work of shards which counted.
        lost_shards: Shards that were begun and lost.
    """

    seconds: float
    efficiency: float
    lost_shards: int


class _Run:
    """A run as it goes on: what waits, who is at what, and the events to come."""

    def __init__(self, shards: Sequence[float], cluster: Cluster, seed: int) -> None:
        self._shards, self._cluster, self._rng = shards, cluster, random.Random(seed)
        nodes = math.ceil(cluster.workers / cluster.per_node)
        self._pace = [cluster.slow_factor if self._rng.random() < cluster.slow_share else 1.0 for _ in range(nodes)]
        self._rate = -math.log(1 - cluster.loss_per_hour) / 3600
        self._waiting = list(range(len(shards)))[::-1]
        self._at: dict[int, int] = {}
        self._idle: set[int] = set()
        self._life = [0] * nodes
        # (when, node or worker, whether it is the loss of a node, the life of the node that it belongs to)
        self._events: list[tuple[float, int, bool, int]] = []
        self.finished = self.lost = 0
        for node in range(nodes):
            self._stand_up(node, 0.0)

    def _members(self, node: int) -> range:
        first = node * self._cluster.per_node
        return range(first, min(first + self._cluster.per_node, self._cluster.workers))

    def _stand_up(self, node: int, now: float) -> None:
        for worker in self._members(node):
            heapq.heappush(self._events, (now + self._cluster.load, worker, False, self._life[node]))
        if self._rate:
            loss = now + self._rng.expovariate(self._rate)
            heapq.heappush(self._events, (loss, node, True, self._life[node]))

    def step(self) -> float:
        """Let the next thing happen; return when."""
        now, who, is_loss, life = heapq.heappop(self._events)
        node = who if is_loss else who // self._cluster.per_node
        if life != self._life[node]:
            return now
        if is_loss:
            self._lose(node, now)
        else:
            self.finished += self._at.pop(who, None) is not None
            self._begin(who, now)
        return now

    def _lose(self, node: int, now: float) -> None:
        self._life[node] += 1
        members = set(self._members(node))
        shards = [self._at.pop(worker) for worker in sorted(members) if worker in self._at]
        self._waiting += shards
        self.lost += len(shards)
        self._idle -= members
        self._stand_up(node, now + self._cluster.replace)
        for worker in sorted(self._idle)[: len(shards)]:
            self._idle.remove(worker)
            self._begin(worker, now)

    def _begin(self, worker: int, now: float) -> None:
        if not self._waiting:
            self._idle.add(worker)
            return
        shard = self._at[worker] = self._waiting.pop()
        node = worker // self._cluster.per_node
        end = now + self._pace[node] * (self._cluster.fixed + self._shards[shard])
        heapq.heappush(self._events, (end, worker, False, self._life[node]))


def simulate(shards: Sequence[float], cluster: Cluster, seed: int) -> Outcome:
    """Run shards, given as seconds of work on a worker of usual speed, in their order."""
    run, now = _Run(shards, cluster, seed), 0.0
    while run.finished < len(shards):
        now = run.step()
    return Outcome(now, sum(shards) / (now * cluster.workers), run.lost)


def draw_shards(total: float, each: float, variation: float, seed: int) -> list[float]:
    """Cut `total` seconds of work into shards of about `each`, whose lengths vary by this coefficient (log-normal)."""
    rng = random.Random(seed)
    count = max(1, round(total / each))
    sigma = math.sqrt(math.log(1 + variation**2))
    drawn = [rng.lognormvariate(-(sigma**2) / 2, sigma) for _ in range(count)]
    scale = total / sum(drawn)
    return [scale * item for item in drawn]
