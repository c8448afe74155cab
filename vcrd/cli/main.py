"""The command group: a verb's module is imported when the verb is used, so that `vcrd --help` is quick."""

from __future__ import annotations

import importlib
import sys

import click

from vcrd import __version__
from vcrd.errors import ConfigError, VcrdError, leave_closed_pipe

_VERBS = {
    "card": ("vcrd.cli.card", "Write the data set card of a run."),
    "doctor": ("vcrd.cli.doctor", "Say what is installed, what will work, and what to install."),
    "export": ("vcrd.cli.export", "Write a training data set for another trainer."),
    "inspect": ("vcrd.cli.inspect", "Write one page to look at a training data set with."),
    "pull": ("vcrd.cli.pull", "Bring a data set from the Hub, proved, into a folder."),
    "push": ("vcrd.cli.push", "Share a run's data on the Hub, in one commit."),
    "reliability": ("vcrd.cli.reliability", "Fit, apply and measure maps from evidence to local validity."),
    "validate": ("vcrd.cli.validate", "Check files, schema, keys and invariants of a data set."),
    "verify": ("vcrd.cli.verify", "Judge model outputs by rules: answers, steps, instructions."),
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(_VERBS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in sorted(_VERBS.items())])


@click.group(cls=_Verbs)
@click.version_option(__version__, prog_name="vcrd")
def _group() -> None:
    """Validity-calibrated reasoning distillation, on files and data sets.

    \b
    Exit codes:
      0    done
      1    a bug of ours, with its traceback
      2    you can fix it; one line says how
      3    the data is broken; it names file, column and row
      75   another process is writing the same thing
      130  interrupted

    \b
    Completion in your shell (put it into its start-up file):
      eval "$(_VCRD_COMPLETE=bash_source vcrd)"    bash; zsh_source for zsh
      _VCRD_COMPLETE=fish_source vcrd | source     fish
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo


def main() -> None:
    """Run a verb; an expected error is one line and its exit code, a bug keeps its traceback."""
    try:
        _group.main(prog_name="vcrd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vcrd":
            raise
        click.echo(f"ConfigError: this needs {error.name}; run: pip install 'vcrd[pipeline]'", err=True)
        sys.exit(2)
    except VcrdError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        leave_closed_pipe()
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"ConfigError: {error.filename}: {error.strerror}; give a path that can be used", err=True)
        sys.exit(ConfigError.exit_code)
