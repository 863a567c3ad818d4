"""Lesson 04: placement and balance. Read `questions` first, then `exercises`."""

from d2lpart.course.lessons.help_table import with_help
from d2lpart.course.lessons.lesson_04 import exercises, questions
from d2lpart.course.lessons.lesson_04.help import EXERCISE_HELP, HELP
from d2lpart.course.lessons.lesson_04.questions import PREDICTIONS
from d2lpart.course.lessons.lesson_04.variants import VARIANTS

__all__ = ["EXERCISES", "PREDICTIONS", "QUESTIONS", "VARIANTS"]

QUESTIONS = with_help(questions.QUESTIONS, HELP)
EXERCISES = with_help(exercises.EXERCISES, EXERCISE_HELP)
