"""The LeNet of D2L's chapter "Training on Multiple GPUs", as an explicit list of layers.

Images (N, 1, 28, 28) become 10 logits. Its weights are W1 (20, 1, 3, 3), W2 (50, 20, 5, 5),
W3 (128, 800) and W4 (10, 128) with their biases: 129,068 parameters. They are drawn as torch draws
them, with which it learns within seconds; D2L's are normal with standard deviation 0.01.
"""

from torch import nn

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
