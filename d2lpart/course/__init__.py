"""The lessons, and what asks, checks and grades: a notebook imports its names from here.

Read `catalog` first, then one lesson in `lessons`, where its questions and exercises are written.
The other folders are what every lesson uses: `questions` and `checks` have their kinds, `progress`
keeps the answers, `grading` judges submissions, `notebooks` builds from the sources, and `mutation`
tests the checks.
"""

from d2lpart.course.catalog import check, exercise, hint, hints, predict, progress, question

__all__ = ["check", "exercise", "hint", "hints", "predict", "progress", "question"]
