"""Lesson 03: splitting a transformer decoder. Read `questions` first, then `exercises`."""

from d2lpart.course.lessons.help_table import with_help
from d2lpart.course.lessons.lesson_03 import exercises, questions
from d2lpart.course.lessons.lesson_03.help import EXERCISE_HELP, HELP
from d2lpart.course.lessons.lesson_03.questions import PREDICTIONS
from d2lpart.course.lessons.lesson_03.variants import VARIANTS

__all__ = ["EXERCISES", "PREDICTIONS", "QUESTIONS", "VARIANTS"]

QUESTIONS = with_help(questions.QUESTIONS, HELP)
EXERCISES = with_help(exercises.EXERCISES, EXERCISE_HELP)
