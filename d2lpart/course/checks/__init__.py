"""Checks: a learner's function is run on cases, and a wrong one gets the sentence that unlocks it.

Read `exercise` first, then `checker` and `diagnosis`; `guard` makes sure that a check ends.
"""
