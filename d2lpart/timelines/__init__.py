"""When it happens: every clock gives a `Timeline`, and all that is said of a step is read off it.

Read `spans` and `timeline` first, then `simulator`. Why a rank stands idle is in `gap_reasons`.
"""

__all__ = [
    "bubble_table",
    "builder",
    "gap_reasons",
    "ranking_table",
    "simulator",
    "spans",
    "svg",
    "timeline",
]
