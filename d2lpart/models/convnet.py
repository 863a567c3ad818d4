"""The LeNet of D2L's chapter "Training on Multiple GPUs" as an explicit list, and digits for it.

Images (N, 1, 28, 28) become 10 logits. Its weights are W1 (20, 1, 3, 3), W2 (50, 20, 5, 5),
W3 (128, 800) and W4 (10, 128) with their biases: 129,068 parameters. They are drawn as torch draws
them, with which it learns within seconds; D2L's are normal with standard deviation 0.01.

The images are drawn here and not downloaded. Each is a digit of a 5 × 7 dot matrix, enlarged, moved
a little, made lighter or darker, and covered with noise. They are easier than handwriting, and have
its size, 28 × 28, and its ten classes.
"""

import torch
from torch import Tensor, nn

from d2lpart.common.arguments import check_number

NAMES = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flat", "dense1", "relu3", "dense2")
"""A name for each layer, in order."""


def lenet() -> nn.Sequential:
    """Return the network, with weights from torch's global generator.

    >>> sum(weight.numel() for weight in lenet().parameters())
    129068
    """
    return nn.Sequential(
        nn.Conv2d(1, 20, kernel_size=3),  # (N, 20, 26, 26)
        nn.ReLU(),
        nn.AvgPool2d(2),  # (N, 20, 13, 13)
        nn.Conv2d(20, 50, kernel_size=5),  # (N, 50, 9, 9)
        nn.ReLU(),
        nn.AvgPool2d(2),  # (N, 50, 4, 4)
        nn.Flatten(),  # (N, 800)
        nn.Linear(800, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


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
