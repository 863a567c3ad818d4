"""The models that the command line can name: our decoder by its sizes, presets, a config.json."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from d2lpart.common.words import shortened
from d2lpart.models.decoder import Decoder
from d2lpart.models.layers import layers_of

VOCABULARY, CONTEXT = 51200, 2048

# Layers, width, heads: of Llama 2 (arXiv 2307.09288), 30b of OPT (arXiv 2205.01068).
PRESETS = {
    "7b": (32, 4096, 32),
    "13b": (40, 5120, 40),
    "30b": (48, 7168, 56),
    "70b": (80, 8192, 64),
}
GPT2 = {"vocab": 50257, "width": 768, "layers": 12, "heads": 12, "context": 1024}
SIZES = ("width", "layers", "heads", "vocab", "context")
KNOWN = (
    f"decoder:width=256,layers=8,heads=4, gpt2, {', '.join(PRESETS)}, or a path to a config.json"
)


@dataclass(frozen=True)
class Choice:
    """A model that can be built, on any device and in any type.

    Attributes:
        name: what the user called it.
        vocab_size: the number of token ids.
        context: the most positions it takes.
        build: returns the model; in a `torch.device("meta")` context it takes no memory.
        says: what says so of the context, in words.
    """

    name: str
    vocab_size: int
    context: int
    build: Callable[[], nn.Module]
    says: str = "the most it takes"

    def layers(self, device: str, dtype: torch.dtype = torch.float32) -> list[nn.Module]:
        """Build the model, and return its layers in training mode."""
        with torch.device(device):
            model = self.build()
        return layers_of(model.to(dtype).train())

    def sample(self, samples: int, positions: int, device: str) -> torch.Tensor:
        """Return token ids (samples, positions), as one micro-batch.

        Raises:
            ValueError: more positions than the model takes.
        """
        if positions > self.context:
            raise ValueError(
                f"a context of {positions} for {self.name}, which takes at most {self.context} "
                f"positions: give --context {self.context} or less"
            )
        if device == "meta":
            return torch.empty(samples, positions, dtype=torch.long, device=device)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab_size, (samples, positions), generator=generator)
        return ids.to(device)


def choose_model(text: str) -> Choice:
    """Return the model that a user names.

    Raises:
        ValueError: an unknown name, a missing file, or sizes that do not fit together.

    >>> choose_model("decoder:width=64,layers=2,heads=4,vocab=100").vocab_size
    100
    """
    name = text.strip()
    if name.partition(":")[0] == "decoder":
        return _decoder(name, _sizes(name))
    if name.lower() == "gpt2":
        return _decoder(name, GPT2, tied=True)
    if name.lower() in PRESETS:
        layers, width, heads = PRESETS[name.lower()]
        return _decoder(name, {"layers": layers, "width": width, "heads": heads})
    if name.endswith(".json") or os.path.exists(name):
        return _from_config(name)
    raise ValueError(f"no model is called {shortened(text)}: use {KNOWN}")


def _sizes(text: str) -> dict[str, int]:
    """Read "decoder:width=256,layers=8"."""
    sizes: dict[str, int] = {}
    for part in filter(None, text.partition(":")[2].split(",")):
        name, _, number = part.partition("=")
        if name.strip() not in SIZES or not number.strip().isdigit():
            raise ValueError(
                f"{part!r} in {text!r}: give sizes as name=number, of {', '.join(SIZES)}"
            )
        sizes[name.strip()] = int(number)
    missing = [name for name in SIZES[:3] if name not in sizes]
    if missing:
        raise ValueError(
            f"{text!r} says nothing of {', '.join(missing)}: give all three, as in "
            f"decoder:width=256,layers=8,heads=4"
        )
    return sizes


def _decoder(name: str, sizes: dict[str, int], tied: bool = False) -> Choice:
    vocab, context = sizes.get("vocab", VOCABULARY), sizes.get("context", CONTEXT)

    def build() -> nn.Module:
        return Decoder(vocab, sizes["width"], sizes["layers"], sizes["heads"], context, tied=tied)

    return Choice(name, vocab, context, build)


def _from_config(name: str) -> Choice:
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; use {KNOWN}")
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            f"{path}: to read a Hugging Face config takes transformers: pip install transformers"
        )
    from d2lpart.models import hugging_face

    config = hugging_face.read_config(path)
    context = getattr(config, "max_position_embeddings", None)
    says = "max_position_embeddings of the config" if context else "as the config says nothing"

    def build() -> nn.Module:
        return hugging_face.build(config)

    return Choice(name, config.vocab_size, context or CONTEXT, build, says)
