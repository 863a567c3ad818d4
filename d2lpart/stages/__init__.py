"""One rank alone: the forwards and backwards of its stages, and what it keeps for them.

Read `stage` first, then `microbatch`. What is held is counted by `memory_account`.
"""

__all__ = [
    "checks",
    "footprint",
    "generators",
    "gradients",
    "keyed_dropout",
    "layer_parts",
    "losses",
    "memory_account",
    "microbatch",
    "optimizer_state",
    "probe",
    "saved",
    "split_backward",
    "stage",
    "thread_settings",
    "tied",
]
