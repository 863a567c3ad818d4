"""What a learner has tried and passed, kept on the learner's own disk.

Read `entry` first.
"""
