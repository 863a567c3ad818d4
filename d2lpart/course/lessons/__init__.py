"""One folder a lesson: its questions, exercises, hints, variants, and the facts they rest on.

Read `lesson_05` first. A lesson joins the course by a line in `catalog`.
"""
