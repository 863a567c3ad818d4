"""How numbers, units, files and messages are read and written, and how a value shows itself.

It knows nothing of networks. Read `arguments` first.
"""

__all__ = ["arguments", "display", "files", "quantities", "words"]
