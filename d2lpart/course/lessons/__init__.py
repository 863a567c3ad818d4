"""One folder a lesson: its questions, exercises, hints, variants, and the facts they rest on.

Read `lesson_04` first: its `__init__` joins the items and their help. A lesson joins the course by
a line in `catalog`.
"""
