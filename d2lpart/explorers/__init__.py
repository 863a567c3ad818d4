"""Explorers to touch, and the plain reports behind them.

Beside the course this is the only room that loads ipywidgets. Read `report_schedule` first.
"""

from d2lpart.explorers.report_partition import partition_report
from d2lpart.explorers.report_schedule import schedule_report
from d2lpart.explorers.widgets import partition_editor, schedule_builder, schedule_explorer

__all__ = [
    "partition_editor",
    "partition_report",
    "schedule_builder",
    "schedule_explorer",
    "schedule_report",
]
