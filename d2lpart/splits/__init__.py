"""The other ways to split: tensor parallelism, data parallelism, and the collectives of both.

Read `collectives` first. `comparison` sets all three ways side by side.
"""

__all__ = ["comparison", "data_parallel", "tensor_parallel"]
