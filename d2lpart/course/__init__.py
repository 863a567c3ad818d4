"""The course engine: questions and checks that run code, and the builder of the notebooks."""

from d2lpart.course.catalog import check, exercise, question

__all__ = ["check", "exercise", "question"]
