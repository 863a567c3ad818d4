"""Lesson 03: the prediction at its start."""

from d2lpart.course.questions.prediction import Prediction

PREDICTIONS = [
    Prediction(
        "03.p1",
        "In how many of the 77 gradients does at least one bit differ?",
        unit="",
        tolerance=0.5,
        ideas=[
            (77, "Rounding would differ everywhere if sums were taken in another order."),
            (3, "A message over one of the 3 cuts keeps all 32 bits of each number."),
        ],
        lesson="The gradients are not merely close: they are equal to the last bit.",
    ),
]
