"""Images of digits, drawn here and not downloaded, for a network to learn to read.

Each is a digit of a 5 × 7 dot matrix, enlarged, moved a little, made lighter or darker, and covered
with noise. They are easier than handwriting, and have its size, 28 × 28, and its ten classes.
"""

import torch
from torch import Tensor

from d2lpart.common.arguments import check_number

SIZE, ENLARGED, MOVED = 28, 3, 2  # pixels

DOTS = """
 ###    #    ###   ###     #  #####  ###  #####  ###   ###
#   #  ##   #   # #   #   ##  #     #         # #   # #   #
#  ##   #       #     #  # #  ####  #        #  #   # #   #
# # #   #     ##    ##  #  #      # ####    #    ###   ####
##  #   #    #        # #####     # #   #  #    #   #     #
#   #   #   #     #   #    #  #   # #   #  #    #   #     #
 ###   ###  #####  ###     #   ###   ###   #     ###   ###
"""


def _digits() -> Tensor:
    """Return the ten digits, (10, 21, 15), each dot three by three pixels."""
    rows = [line.ljust(60) for line in DOTS.splitlines()[1:]]
    marks = [[[mark == "#" for mark in row[k : k + 5]] for row in rows] for k in range(0, 60, 6)]
    dots = torch.tensor(marks).float()
    return dots.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)


def glyphs(number: int, *, seed: int = 0, noise: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return images (number, 1, 28, 28), about 0 to 1, and their digits (number,), int64.

    Args:
        number: how many, at least 1.
        seed: of all that is drawn; torch's global generator has no part in it.
        noise: the standard deviation of what is added to each pixel.

    Raises:
        ValueError: a number below 1, or noise below 0.

    >>> images, digits = glyphs(4)
    >>> images.shape, digits.dtype
    (torch.Size([4, 1, 28, 28]), torch.int64)
    """
    check_number("number", number)
    check_number("noise", noise)
    if number < 1 or noise < 0:
        raise ValueError(
            f"{number} images with noise {noise}: use at least 1 image, and noise of at least 0"
        )
    generator = torch.Generator().manual_seed(seed)
    digits = torch.randint(10, (number,), generator=generator)
    light = 0.6 + 0.4 * torch.rand(number, generator=generator)
    shapes = _digits()
    height, width = shapes.shape[1:]
    moved = torch.randint(-MOVED, MOVED + 1, (number, 2), generator=generator)
    corners = (torch.tensor([SIZE - height, SIZE - width]) // 2 + moved).tolist()
    images = noise * torch.randn(number, 1, SIZE, SIZE, generator=generator)
    for i, (y, x) in enumerate(corners):
        images[i, 0, y : y + height, x : x + width] += light[i] * shapes[digits[i]]
    return images, digits
