"""Lesson 01: the ledgers that its explanations take their numbers from, all by formula."""

from functools import cache
from math import ceil

import torch

from d2lpart import Decoder, DecoderShape, Ledger, build_schedule, decoder_ledger
from d2lpart.memory.formulas import ADAM_FP32, ADAM_MIXED, layer_activations

SEVEN = DecoderShape(num_layers=32, width=4096, num_heads=32)
"""A decoder of about 7 billion parameters; its layers are counted as 7e9 in all."""

USABLE = 0.92
"""The part of a GPU's memory that a training step can have."""


def seven(num_ranks: int = 1) -> Ledger:
    """The ledger of rank 0 of the 7B under 1F1B, with 16 micro-batches of one sequence."""
    return decoder_ledger(SEVEN, build_schedule("1f1b", num_ranks, 16), parameters=7e9)


def longer(times: int = 1, recompute: str = "none") -> float:
    """How many times the activations of a layer of the 7B grow with so many times the context."""
    shape = DecoderShape(SEVEN.num_layers, SEVEN.width, SEVEN.num_heads, times * SEVEN.context)
    before = layer_activations(SEVEN, recompute=recompute)
    return layer_activations(shape, recompute=recompute) / before


@cache
def small_parameters() -> int:
    """The parameters of the decoder that the lesson trains."""
    with torch.device("meta"):
        model = Decoder(vocab_size=256, width=128, num_layers=10, num_heads=4, context=64)
    return sum(weight.numel() for weight in model.parameters())


def small_state(num_ranks: int = 1) -> float:
    """Its weights, gradients and Adam's state on each of so many even ranks, in MB."""
    return small_parameters() * ADAM_FP32.total / num_ranks / 1e6


def state_gb(billions: float) -> float:
    """Weights, gradients and optimizer of so many billion parameters, Adam in 16 bits, in GB."""
    return billions * ADAM_MIXED.total


def fewest(billions: float, card: float) -> int:
    """The fewest GPUs of `card` GB that hold this state, if it could be cut anywhere."""
    return ceil(state_gb(billions) / (USABLE * card))
