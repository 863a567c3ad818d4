"""What a rank must hold, by formula, and what is raised when it does not fit.

Read `ledger` first, then `formulas`, where a new item of memory gets its bytes.
"""

__all__ = ["failures", "formulas", "ledger"]
