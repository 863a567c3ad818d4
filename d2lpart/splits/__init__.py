"""Tensor parallelism and data parallelism, and the collectives that both are made of.

Read `collectives` first. `comparison` sets them beside a pipeline.
"""

__all__ = ["comparison", "data_parallel", "tensor_parallel"]
