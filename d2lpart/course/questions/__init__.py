"""Questions and predictions: how they are asked, how an answer is read, and what it gets back.

Read `choices` first; `feedback` is what every answer and every check returns.
"""
