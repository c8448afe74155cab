"""A call costs at most its bound, whatever the function does; the next one is answered; a fork has its own worker."""

import os
import time
from collections.abc import Iterator

import pytest

from vcrd.io.workers import BoundedWorker, Late

SECONDS = 1.0


@pytest.fixture(scope="module")
def sleeper() -> Iterator[BoundedWorker]:
    worker = BoundedWorker("time:sleep", SECONDS)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[BoundedWorker]:
    worker = BoundedWorker("ast:literal_eval", SECONDS)
    yield worker
    worker.close()


def test_a_call_returns_the_functions_result_and_the_worker_is_reused(reader: BoundedWorker) -> None:
    pid = BoundedWorker("os:getpid", SECONDS)
    assert reader.call("[1, 'é\\n']") == [1, "é\n"]
    assert pid.call() == pid.call() != os.getpid()
    pid.close()


def test_a_late_call_costs_its_bound_and_the_next_one_is_answered(sleeper: BoundedWorker) -> None:
    assert sleeper.call(0) is None  # the start is not counted
    start = time.monotonic()
    with pytest.raises(Late, match="within 1 s"):
        sleeper.call(60)
    assert time.monotonic() - start < SECONDS + 1
    assert sleeper.call(0) is None


def test_a_function_that_raises_or_ends_its_process_is_late_and_the_next_call_is_answered(
    reader: BoundedWorker,
) -> None:
    with pytest.raises(Late):
        reader.call("not python(")
    assert reader.call("3") == 3
    leaver = BoundedWorker("os:_exit", SECONDS)
    for _ in range(2):
        with pytest.raises(Late):
            leaver.call(0)


def test_what_a_function_prints_is_no_answer() -> None:
    printer = BoundedWorker("builtins:print", SECONDS)
    assert [printer.call("[1]"), printer.call("ready")] == [None, None]
    printer.close()


def test_arguments_far_larger_than_a_pipe_are_read(reader: BoundedWorker) -> None:
    text = "x" * 3_000_000
    assert reader.call(repr(text)) == text


def test_a_function_that_wants_too_much_memory_is_late() -> None:
    hungry = BoundedWorker("operator:mul", 5.0)
    with pytest.raises(Late):
        hungry.call("x", 8 << 30)
    assert hungry.call(6, 7) == 42
    hungry.close()


def test_a_fork_talks_to_a_worker_of_its_own_and_leaves_its_parents_alone() -> None:
    worker = BoundedWorker("os:getpid", SECONDS)
    mine = worker.call()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, str(worker.call()).encode())
            worker.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(read, 20))
    assert theirs != mine
    assert worker.call() == mine
    worker.close()


def test_a_closed_worker_is_gone_and_starts_again() -> None:
    worker = BoundedWorker("os:getpid", SECONDS)
    first = worker.call()
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert worker.call() != first
    worker.close()


def test_a_worker_that_cannot_start_is_an_error_and_no_verdict() -> None:
    worker = BoundedWorker("no.such.module:function", 5)
    with pytest.raises(RuntimeError, match="did not start"):
        worker.call()
