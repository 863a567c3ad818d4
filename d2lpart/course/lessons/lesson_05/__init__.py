"""Lesson 05: worker idle time. Read `questions` first, then `exercises`."""

from d2lpart.course.lessons.help_table import with_help
from d2lpart.course.lessons.lesson_05 import exercises, questions
from d2lpart.course.lessons.lesson_05.help import EXERCISE_HELP, HELP
from d2lpart.course.lessons.lesson_05.questions import PREDICTIONS
from d2lpart.course.lessons.lesson_05.variants import VARIANTS

__all__ = ["EXERCISES", "PREDICTIONS", "QUESTIONS", "VARIANTS"]

QUESTIONS = with_help(questions.QUESTIONS, HELP)
EXERCISES = with_help(exercises.EXERCISES, EXERCISE_HELP)
