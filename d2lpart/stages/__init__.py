"""One rank's work on one micro-batch: forward, backward or its two halves, and what is held.

Read `stage` first, then `microbatch`, for the loss.
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
