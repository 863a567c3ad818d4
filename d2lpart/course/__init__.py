"""The course engine: questions and checks that run code, and the builder of the notebooks."""

from d2lpart.course.catalog import check, exercise, hint, hints, predict, question
from d2lpart.course.progress.table import progress

__all__ = ["check", "exercise", "hint", "hints", "predict", "progress", "question"]
