"""What every room uses: how users' numbers and units are read and written, files, colours, display.

It knows nothing of networks. Read `arguments` first.
"""

__all__ = ["arguments", "display", "files", "quantities"]
