"""Layers measured, and a step and its memory foretold from that.

Read `layer_cost` first, then `profiler`. `layer_cost`, `forecasting` and `memory_forecast` need no
torch.
"""

__all__ = ["forecasting", "layer_cost", "memory_forecast", "profiler"]
