"""How numbers, units, files and messages are read and written, how a value shows itself; Ctrl-C.

It knows nothing of networks. Read `arguments` first.
"""

__all__ = ["arguments", "display", "files", "interrupts", "quantities", "words"]
