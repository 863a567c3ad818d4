"""From one source to the notebooks: derived, run, written, and held against the source.

Read `source` first, then `build`.
"""
