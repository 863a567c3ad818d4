"""Lesson 06: pipeline parallelism. Read `questions` first, then `exercises`."""

from d2lpart.course.lessons.help_table import with_help
from d2lpart.course.lessons.lesson_06 import exercises, questions
from d2lpart.course.lessons.lesson_06.help import EXERCISE_HELP, HELP
from d2lpart.course.lessons.lesson_06.questions import PREDICTIONS
from d2lpart.course.lessons.lesson_06.variants import VARIANTS

__all__ = ["EXERCISES", "PREDICTIONS", "QUESTIONS", "VARIANTS"]

QUESTIONS = with_help(questions.QUESTIONS, HELP)
EXERCISES = with_help(exercises.EXERCISES, EXERCISE_HELP)
