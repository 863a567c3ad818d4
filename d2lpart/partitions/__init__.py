"""Where to cut: which consecutive layers each stage holds, and which cuts are the best.

Read `partitioning` first. The exact search is in `packing`, `sweep` and `optimum`, in this order.
"""

__all__ = ["amounts", "partitioning", "placement"]
