"""d2lpart: split a transformer decoder layer-wise over devices, and time who stands idle."""

from typing import Any

from d2lpart.display import set_painter
from d2lpart.orders import SCHEDULES, build_schedule
from d2lpart.schedule import Action, Schedule, ScheduleError, dependencies, validate
from d2lpart.simulator import simulate
from d2lpart.span import Link, Span, Transfer
from d2lpart.timeline import Timeline

__all__ = [
    "SCHEDULES",
    "Action",
    "Link",
    "Schedule",
    "ScheduleError",
    "Span",
    "Timeline",
    "Transfer",
    "build_schedule",
    "dependencies",
    "simulate",
    "validate",
]


def _paint(value: Any, **options: Any) -> Any:
    """Draw a value; matplotlib is loaded when the first figure is asked for, not before."""
    from d2lpart import draw

    return draw.plot(value, **options)


set_painter(_paint)
