"""What a layer costs, and what a step will take and hold according to that.

Read `layer_cost` first, then `profiler`. `layer_cost`, `forecasting` and `memory_forecast` need no
torch.
"""

__all__ = ["forecasting", "layer_cost", "memory_forecast", "profiler"]
