"""Grading submitted notebooks: a child process runs the learner's code, its parent judges."""
