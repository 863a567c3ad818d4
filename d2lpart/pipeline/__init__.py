"""The ranks together: one step of a whole pipeline, on the wall clock or the virtual one.

Read `engine` first, then `clocks`; `pipeline` puts everything together.
"""

__all__ = ["pipeline", "step_result"]
