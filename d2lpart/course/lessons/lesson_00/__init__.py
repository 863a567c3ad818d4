"""Lesson 00: start here. Read `questions` first; it has no exercises."""

from d2lpart.course.lessons.help_table import with_help
from d2lpart.course.lessons.lesson_00 import questions
from d2lpart.course.lessons.lesson_00.help import HELP
from d2lpart.course.lessons.lesson_00.questions import PREDICTIONS, VARIANTS

__all__ = ["PREDICTIONS", "QUESTIONS", "VARIANTS"]

QUESTIONS = with_help(questions.QUESTIONS, HELP)
