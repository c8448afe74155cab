"""The matrix of experiments: `python -m benchmarks.experiments run|tune|report`."""

from __future__ import annotations

import os
import sys

# Workers are processes; two thread pools that spin while they wait make each other crawl.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import click

from benchmarks.experiments.matrix import finished_runs, run_matrix, take_over
from benchmarks.experiments.plan import tuned_file
from benchmarks.experiments.report import read_results, write_report
from benchmarks.experiments.sizes import SIZES, Size, workspace
from benchmarks.experiments.tuning import best_rates
from pipeline.cli import guarded
from pipeline.executors.local import die_with_dvc
from vcrd.errors import ConfigError
from vcrd.io.files import write_json


@click.group(help=__doc__)
def main() -> None:
    """Group the verbs."""


def _size(name: str, domain: str) -> Size:
    size = SIZES[name]
    if domain not in size.domains:
        raise ConfigError(f"the size {name} has the domains {', '.join(size.domains)}, got {domain!r}")
    return size


@main.command()
@click.argument("domain")
@click.option("--size", type=click.Choice(list(SIZES)), default="full", show_default=True)
def run(domain: str, size: str) -> None:
    """Make what is missing of a domain's matrix; stop it whenever you like and run it again."""
    die_with_dvc()
    run_matrix(domain, _size(size, domain), workspace())


@main.command()
@click.argument("domain")
def tune(domain: str) -> None:
    """Choose every method's learning rate on the development set, and write it down."""
    size = _size("dev", domain)
    run_matrix(domain, size, workspace())
    runs, _ = finished_runs(domain, size, workspace())
    write_json(tuned_file(domain), best_rates(list(runs.values()), size))


@main.command()
@click.argument("domain")
def resume(domain: str) -> None:
    """Take over the committed runs of another sitting: what decides them being the same, they are not made again."""
    size = _size("full", domain)
    taken = take_over(domain, size, workspace(), read_results())
    runs, planned = finished_runs(domain, size, workspace())
    sys.stderr.write(f"{domain}: {taken} runs taken over, {len(runs)} of {planned} finished\n")


@main.command()
@click.option("--size", type=click.Choice(["full", "small"]), default="full", show_default=True)
def report(size: str) -> None:
    """Gather the runs that are finished: Parquet, tables and plots."""
    chosen = SIZES[size]
    found = [finished_runs(domain, chosen, workspace()) for domain in chosen.domains]
    sys.stderr.write(f"{sum(len(runs) for runs, _ in found)} of {sum(planned for _, planned in found)} runs\n")
    write_report(chosen, {name: run for runs, _ in found for name, run in runs.items()})


if __name__ == "__main__":
    guarded(main)()
