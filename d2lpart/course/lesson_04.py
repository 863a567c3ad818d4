"""Lesson 04: its questions and exercises."""

from d2lpart.course.exercise import Exercise
from d2lpart.course.questions import BaseQuestion

QUESTIONS: list[BaseQuestion] = []
EXERCISES: list[Exercise] = []
