"""The moments at which the actions of a step run: every clock gives a `Timeline`, read off here.

Read `spans` first, then `timeline` and `simulator`. The reason of a gap is found in `gap_reasons`;
`critical_path` follows it back through the step.
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
