"""The corpus: there on every machine, the same each time, cut into honest batches."""

import itertools

import pytest
import torch

from d2lpart.models import text
from d2lpart.models.text import Corpus, corpus


def counting(train=100, validation=30):
    return Corpus(
        train=torch.arange(train, dtype=torch.uint8),
        validation=torch.arange(200, 200 + validation, dtype=torch.uint8),
    )


def test_there_is_a_megabyte_of_python_and_more():
    whole = corpus()
    assert len(whole.train) == 900_000
    assert len(whole.validation) == 100_000
    words = whole.decode(whole.train)
    assert words.count("def ") > 1000
    assert words.count("�") < 10
    assert len(corpus(1_900_000).train) == 1_710_000


def test_the_text_is_the_same_each_time_and_a_shorter_one_is_its_beginning():
    long, short = corpus(200_000), corpus(50_000)
    whole = torch.cat([long.train, long.validation])
    assert torch.equal(whole, torch.cat([corpus(200_000).train, corpus(200_000).validation]))
    assert torch.equal(whole[:50_000], torch.cat([short.train, short.validation]))
    assert short.train.dtype == torch.uint8
    assert (short.train.dim(), short.vocab_size) == (1, 256)


def test_the_modules_are_in_order_and_missing_ones_are_passed_over(monkeypatch):
    names = text._MODULES.split()
    assert names == sorted(names)
    whole = corpus(100_000)
    monkeypatch.setattr(text, "_MODULES", "aaa_no_such_module " + text._MODULES)
    assert torch.equal(corpus(100_000).train, whole.train)


def test_more_than_there_is_says_how_much_there_is(monkeypatch):
    monkeypatch.setattr(text, "_MODULES", "heapq")
    with pytest.raises(ValueError, match=r"50000 bytes.*offers 2\d{4}; use at most 2\d{4}"):
        corpus(50_000)


def test_too_little_is_refused():
    with pytest.raises(ValueError, match=r"corpus of 19 bytes.*at least 20"):
        corpus(19)
    assert len(corpus(20).validation) == 2


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0, 99), ("validation", 200, 229)])
def test_targets_are_the_inputs_moved_on_by_one(split, low, high):
    for inputs, targets in counting().batches(5, 8, 40, seed=1, split=split):
        assert inputs.shape == targets.shape == (5, 8)
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(targets, inputs + 1)
        assert torch.equal(inputs, inputs[:, :1] + torch.arange(8))
        assert low <= inputs.min()
        assert targets.max() <= high
        targets.view(-1)  # contiguous, as losses want them


def test_every_place_can_be_drawn_the_first_and_the_last_too():
    batches = counting(train=12).batches(4, 8, 40)
    starts = {start for inputs, _ in batches for start in inputs[:, 0].tolist()}
    assert starts == {0, 1, 2, 3}


def test_a_context_that_just_fits_has_one_place():
    inputs, targets = next(counting(train=9).batches(2, 8))
    assert inputs.tolist() == [list(range(8))] * 2
    assert targets[0, -1] == 8


def test_a_seed_fixes_the_batches_whatever_else_draws():
    def drawn(seed):
        return torch.stack([inputs for inputs, _ in counting().batches(3, 5, 10, seed=seed)])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drawn(7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, drawn(7))
    assert not torch.equal(first, drawn(8))
    assert not torch.equal(first[0], first[1])


def test_steps_bound_the_batches_and_none_does_not():
    assert len(list(counting().batches(1, 2, 3))) == 3
    assert list(counting().batches(1, 2, 0)) == []
    assert len(list(itertools.islice(counting().batches(1, 2), 500))) == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 100), r"context of 100 in a train part of 100 bytes.*at most 99"),
        ((2, 30, 1, "validation"), r"context of 30 in a validation part of 30 bytes.*at most 29"),
        ((0, 4), r"batch_size is 0: give a whole number, at least 1"),
        ((4, 0), r"context is 0: give a whole number, at least 1"),
        ((4, 4, -2), r"steps is -2: give a whole number, at least 0"),
        ((2, 4, 1, "test"), r"no split 'test'.*'train' or 'validation'"),
    ],
)
def test_bad_batches_are_refused_at_the_call(arguments, message):
    batch_size, context, steps, split = (*arguments, *(None, "train")[len(arguments) - 2 :])
    with pytest.raises(ValueError, match=message):
        counting().batches(batch_size, context, steps, split=split)


@pytest.mark.parametrize("words", ["", "def f(x):\n\treturn x", "naïve − ×", "日本 🙂"])
def test_text_survives_encoding_and_decoding(words):
    tokens = Corpus.encode(words)
    assert tokens.dtype == torch.int64
    assert len(tokens) == len(words.encode())
    assert Corpus.decode(tokens) == words
    assert Corpus.decode(tokens.to(torch.uint8)) == words


def test_broken_utf8_is_shown_and_not_raised():
    assert Corpus.decode(Corpus.encode("é")[:1]) == "�"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([1, 256]), r"ids from 1 to 256.*0 to 255.*vocab_size=256"),
        (torch.tensor([-1, 5]), r"ids from -1 to 5"),
        (torch.tensor([[1], [2]]), r"shape \(2, 1\).*tokens\[0\]"),
    ],
)
def test_tokens_that_are_no_text_are_refused(tokens, message):
    with pytest.raises(ValueError, match=message):
        Corpus.decode(tokens)


def test_a_corpus_shows_its_sizes_not_its_bytes():
    assert repr(counting()) == "Corpus(100 bytes to train on, 30 to validate)"
