"""How many bytes a rank needs, counted on paper, and what is raised when it has no room for them.

Read `ledger` first: a new item of memory begins there, in `ITEMS`. Its bytes come from `formulas`
here, from `costs.memory_forecast` for a profiled model, and from `stages.memory_account` for a step
that runs.
"""

__all__ = ["failures", "formulas", "ledger"]
