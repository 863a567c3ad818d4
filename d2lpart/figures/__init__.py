"""Pictures, the only room that loads matplotlib; `plot` and `curves` are all that others use.

Read `page` first, for what a picture is made of, then `timeline`.
"""

from d2lpart.figures.measured_lines import curves
from d2lpart.figures.plotting import plot

__all__ = ["curves", "plot"]
