"""The kinds of questions, and predictions: how they are asked, read and answered.

Read `choices` first; `feedback` is what every answer and every check returns. The questions of a
lesson are in `lessons`.
"""
