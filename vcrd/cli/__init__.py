"""`vcrd VERB`: what works anywhere, on a file or a data set."""

from vcrd.cli.main import main

__all__ = ["main"]
