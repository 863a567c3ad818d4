"""Lesson 03: its predictions, one at the start and one about a tied weight."""

from d2lpart.course.prediction import Prediction

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
        lesson="Not close: equal, to the last bit.",
    ),
    Prediction(
        "03.p2",
        "Each copy gets a gradient of its own. By how many % does the one in the embedding's copy "
        "differ from that of the uncut model?",
        unit="%",
        tolerance=12,
        ideas=[
            (0, "The head uses the weight as well, and its share is in the other copy."),
            (50, "Two shares need not be equally large."),
        ],
        lesson="In this decoder the head has the larger share by far; the two need not be alike.",
    ),
]
