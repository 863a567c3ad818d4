"""Which consecutive layers go to which stage, and which of all partitions is the best.

Read `partitioning` first. The exact search is in `packing`, `sweep` and `optimum`, in this order.
"""

__all__ = ["amounts", "partitioning", "placement"]
