"""Grading submitted notebooks: a child process runs the learner's code, its parent judges.

Read `grader` first, then `child` and `confinement`, which run where the submission does.
"""
