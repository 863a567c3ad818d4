"""One rank alone: the forwards and backwards of its stages, and what it keeps for them.

Read `stage` first, then `microbatch`. What is held is counted by `memory_account`.
"""

__all__ = [
    "checks",
    "footprint",
    "gradients",
    "keyed_dropout",
    "memory_account",
    "microbatch",
    "optimizer_state",
    "saved",
    "split_backward",
    "stage",
    "tied",
]
