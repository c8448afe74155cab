"""One page to look at a training data set with: steps side by side, the evidence, the tokens shaded by weight."""

from vcrd.inspect.gather import LIMIT, gather_page
from vcrd.inspect.render import render_page, write_page
from vcrd.inspect.view import Page, PrefixView, ProblemView, RolloutView, StepView

__all__ = [
    "LIMIT",
    "Page",
    "PrefixView",
    "ProblemView",
    "RolloutView",
    "StepView",
    "gather_page",
    "render_page",
    "write_page",
]
