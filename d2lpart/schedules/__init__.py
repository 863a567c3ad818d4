"""The order in which each rank takes its actions. No time, no device and no model enters here.

Read `schedule` first, for `Action`, `Schedule` and `dependencies`. A new schedule goes into
`orders`. `torch_table` exchanges schedules with torch.distributed.pipelining.
"""

__all__ = [
    "closed_form",
    "compiled_schedule",
    "in_flight",
    "orders",
    "recognition",
    "schedule",
    "torch_table",
    "validation",
]
