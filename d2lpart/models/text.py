"""Real text that every machine has: the source of Python's own standard library, as bytes."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from d2lpart.common.arguments import check_kind, check_whole

# Well-known modules, in the order in which they are read. All are files under these names in
# Python 3.11 to 3.13; where one is missing, the next follows.
_MODULES = """
    argparse ast bdb calendar cmd codecs collections/__init__ configparser contextlib copy csv
    dataclasses difflib doctest enum fractions functools heapq inspect json/decoder json/encoder
    logging/__init__ optparse os pickle platform pprint random shutil socket statistics string
    subprocess tarfile tempfile textwrap threading tokenize typing unittest/case urllib/parse
    urllib/request uuid warnings weakref
"""


@dataclass(frozen=True, repr=False)
class Corpus:
    """Text as bytes, in one part to train on and one to validate with.

    Attributes:
        train: the first nine tenths, uint8, one dimension.
        validation: the rest, uint8, one dimension.
        vocab_size: the number of values a byte can have.
    """

    train: Tensor
    validation: Tensor
    vocab_size: ClassVar[int] = 256

    def __post_init__(self) -> None:
        for part in (self.train, self.validation):
            check_kind(part, Tensor, "give bytes, as Corpus.encode returns them")

    def batches(
        self,
        batch_size: int,
        context: int,
        steps: int | None = None,
        *,
        seed: int = 0,
        split: str = "train",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), both int64 (batch_size, context), from random places.

        The targets are the inputs moved on by one byte: what comes next at each position.
        `steps` is the number of batches, None for no end. The same seed gives the same
        batches; torch's global generator has no part in them.

        Raises:
            ValueError: a size that is no whole number above 0, a split that does not exist, or a
                context longer than the split.

        >>> inputs, targets = next(corpus(10_000).batches(batch_size=2, context=8))
        >>> inputs.shape, torch.equal(inputs[:, 1:], targets[:, :-1])
        (torch.Size([2, 8]), True)
        """
        data = self._part(split)
        check_whole("batch_size", batch_size)
        check_whole("context", context)
        check_whole("seed", seed, least=0)
        if steps is not None:
            check_whole("steps", steps, least=0)
        if len(data) <= context:
            raise ValueError(
                f"a context of {context} in a {split} part of {len(data)} bytes: a sample takes "
                f"context + 1 bytes; use a context of at most {len(data) - 1}, or a larger corpus"
            )
        return _random_batches(data, batch_size, context, steps, seed)

    def _part(self, split: str) -> Tensor:
        if split not in ("train", "validation"):
            raise ValueError(
                f"no split {split!r}: a corpus has 2 parts; use 'train' or 'validation'"
            )
        return self.train if split == "train" else self.validation

    @staticmethod
    def encode(text: str) -> Tensor:
        """Return the UTF-8 bytes of a text as token ids: int64, one dimension.

        >>> Corpus.encode("def")
        tensor([100, 101, 102])
        """
        check_kind(text, str, "give a text")
        return torch.tensor(list(text.encode("utf-8")), dtype=torch.int64)

    @staticmethod
    def decode(tokens: Tensor) -> str:
        """Return the text of token ids in one dimension; bytes that are no UTF-8 show as �.

        Raises:
            ValueError: tokens of another shape, or ids outside 0 to 255.

        >>> Corpus.decode(torch.tensor([100, 101, 102]))
        'def'
        """
        check_kind(tokens, Tensor, "give token ids, such as torch.tensor([100, 101, 102])")
        if tokens.dim() != 1:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}: a text has 1 dimension; "
                "take one row of a batch, for example tokens[0]"
            )
        ids = tokens.tolist()
        if tokens.is_floating_point() or tokens.is_complex():
            raise ValueError(f"tokens of type {tokens.dtype}: a byte is a whole number; use int64")
        if ids and not 0 <= min(ids) <= max(ids) <= 255:
            raise ValueError(
                f"token ids from {min(ids)} to {max(ids)}: a byte is a whole number "
                "from 0 to 255; use a model with vocab_size=256"
            )
        return bytes(ids).decode("utf-8", errors="replace")

    def __repr__(self) -> str:
        return f"Corpus({len(self.train)} bytes to train on, {len(self.validation)} to validate)"


def corpus(num_bytes: int = 1_000_000) -> Corpus:
    """Return the first `num_bytes` bytes of Python's standard library, nothing downloaded.

    The files and their order are fixed, so one Python version gives one text on every machine;
    another version has edited some of the files. The first 90% are to train on.

    Raises:
        ValueError: fewer than 20 bytes, or more than this Python's files have.

    >>> text = corpus(10_000)
    >>> text
    Corpus(9000 bytes to train on, 1000 to validate)
    >>> text.decode(text.train[:40]).splitlines()[0]
    '# Author: Steven J. Bethard <steven.beth'
    """
    check_whole("num_bytes", num_bytes, least=0)
    if num_bytes < 20:
        raise ValueError(
            f"a corpus of {num_bytes} bytes: both parts need a context and a byte after it; "
            "use at least 20"
        )
    data = _read(num_bytes)
    if len(data) < num_bytes:
        raise ValueError(
            f"a corpus of {num_bytes} bytes: this Python's library offers {len(data)}; "
            f"use at most {len(data)}"
        )
    tokens = torch.frombuffer(data, dtype=torch.uint8)
    cut = num_bytes * 9 // 10
    return Corpus(train=tokens[:cut], validation=tokens[cut:])


def _read(num_bytes: int) -> bytearray:
    """Return the modules' source up to `num_bytes`; less where there is no more."""
    library = Path(os.__file__).parent
    data = bytearray()
    for module in _MODULES.split():
        path = library / f"{module}.py"
        if len(data) < num_bytes and path.is_file():
            data += path.read_bytes()
    return data[:num_bytes]


def _random_batches(
    data: Tensor, batch_size: int, context: int, steps: int | None, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(int(seed))
    offsets = torch.arange(context)
    for _ in itertools.count() if steps is None else range(steps):
        starts = torch.randint(len(data) - context, (batch_size, 1), generator=generator)
        places = starts + offsets  # (batch_size, context)
        yield data[places].long(), data[places + 1].long()
