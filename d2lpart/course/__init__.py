"""The course: questions and checks that run code, and the builder of the notebooks.

What a notebook uses is here. Read `catalog` first; then `questions`, `checks`, and one lesson.
"""

from d2lpart.course.catalog import check, exercise, hint, hints, predict, progress, question

__all__ = ["check", "exercise", "hint", "hints", "predict", "progress", "question"]
