"""Validity-calibrated reasoning distillation: the method and its data format."""

__version__ = "0.1.0"
