"""The palette of Okabe and Ito: colours that are told apart with any colour vision.

Source: jfly.uni-koeln.de/color.
"""

# Light enough for black numbers:
SKY, ORANGE, YELLOW, PURPLE = "#56B4E9", "#E69F00", "#F0E442", "#CC79A7"
# Dark enough to stand on white:
BLUE, VERMILLION, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"

OF_KIND = {"F": SKY, "B": ORANGE, "I": YELLOW, "W": PURPLE}
"""The colour of each kind of action, in every picture."""
