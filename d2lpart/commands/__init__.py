"""The command line: what `d2lpart` says and does in a terminal.

Read `cli` first, where every option stands.
"""

__all__ = ["cli"]
