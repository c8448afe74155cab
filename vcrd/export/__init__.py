"""Export: a `training` data set in the columns of somebody else's trainer.

A target that has no place for something refuses it, until it is told to drop it. Each target's module names the files
that its format was read from, and the version.
"""

from vcrd.export.run import TARGETS, Exported, export_training

__all__ = ["TARGETS", "Exported", "export_training"]
