"""The decoders of Hugging Face's transformers as layers: embedding, blocks, head.

What the library's `forward` of a whole model does between its modules stands here, a layer at a
time: positions, masks, rotary embeddings. The modules are the model's own, loaded or built from a
config.json that lies on this machine. The letters of the shapes are those of `decoder.py`.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from d2lpart.common.words import cut, shortened
from d2lpart.models.padding import Attach, PaddingSource, attach, detach

Windowed = Callable[[Any, int], bool]

# Whether a block of this kind of model has the sliding window of its config.
WINDOWED: dict[str, Windowed] = {
    "gpt2": lambda config, block: False,
    "llama": lambda config, block: False,
    "mistral": lambda config, block: config.sliding_window is not None,
    "phi3": lambda config, block: config.sliding_window is not None,
    "qwen2": lambda config, block: config.layer_types[block] == "sliding_attention",
    "qwen3": lambda config, block: config.layer_types[block] == "sliding_attention",
}


class GPT2Embedding(nn.Module):
    """Token vectors plus position vectors, and dropout on their sum.

    Args:
        tokens, positions: the tables of vectors, (V, C) and (context, C).
        dropout: what comes after.
    """

    def __init__(self, tokens: nn.Embedding, positions: nn.Embedding, dropout: nn.Module) -> None:
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.dropout = dropout

    def forward(self, ids: Tensor) -> Tensor:
        """Turn token ids (B, T) into vectors (B, T, C); a `ValueError` for T above the context."""
        context = self.positions.num_embeddings
        if ids.shape[1] > context:
            raise ValueError(
                f"{ids.shape[1]} positions for a context of {context}: each position needs its own "
                f"vector; pass at most {context} positions"
            )
        vectors = self.positions(torch.arange(ids.shape[1], device=ids.device)[None])  # (1, T, C)
        return self.dropout(self.tokens(ids) + vectors)


class HFBlock(nn.Module):
    """One block of a decoder with the mask and the positions that the whole model would give it.

    Args:
        block: the model's own block.
        config: the model's config, which names the attention kernel and the window.
        windowed: whether the block sees only the last `config.sliding_window` positions.
        rotary: makes the rotary embeddings; None where the positions are in the vectors.
        padded: whether the last column of the activation is a padding mask.
    """

    def __init__(
        self, block: nn.Module, config: Any, windowed: bool, rotary: nn.Module | None, padded: bool
    ) -> None:
        super().__init__()
        self.block = block
        self.rotary = rotary
        self.config = config
        self.windowed = windowed
        self.padded = padded
        _refuse_checkpointing(block)

    def forward(self, x: Tensor) -> Tensor:
        """Map the vectors (B, T, C), or with their mask (B, T, C + 1); the shape stays."""
        _refuse_checkpointing(self.block)
        padding = None
        if self.padded:
            x, padding = detach(x)
        positions = torch.arange(x.shape[1], device=x.device)[None]  # (1, T)
        make_mask = create_sliding_window_causal_mask if self.windowed else create_causal_mask
        given = {
            "attention_mask": make_mask(self.config, x, padding, None),
            "position_ids": positions,
        }
        if self.rotary is not None:
            given["position_embeddings"] = self.rotary(x, positions)
        x = self.block(x, **given)
        return x if padding is None else attach(x, padding)


class HFHead(nn.Module):
    """The last normalisation, and the logits where the model has a language head.

    Args:
        norm: the model's last normalisation.
        projection: from vectors to logits; None for a model without a language head.
        padded: whether the last column of the activation is a padding mask.
    """

    def __init__(self, norm: nn.Module, projection: nn.Module | None, padded: bool) -> None:
        super().__init__()
        self.norm = norm
        self.projection = projection
        self.padded = padded

    def forward(self, x: Tensor) -> Tensor:
        """Turn vectors (B, T, C) into logits (B, T, V); a mask ends here."""
        if self.padded:
            x, _ = detach(x)
        x = self.norm(x)
        return x if self.projection is None else self.projection(x)


def decoder_layers(model: Any, padding: PaddingSource) -> list[nn.Module]:
    """Return the layers of a decoder that `layers_of` knows by name; its arguments.

    Raises:
        ValueError: a `padding` of another kind, or a model with gradient checkpointing on.
    """
    _check_padding(padding)
    parts = _gpt2_parts if model.config.model_type == "gpt2" else _llama_parts
    embedding, blocks, norm, rotary = parts(getattr(model, model.base_model_prefix, model))
    config, padded = model.config, padding is not None
    windowed = WINDOWED[config.model_type]
    layers = [
        HFBlock(block, config, windowed(config, number), copy.deepcopy(rotary), padded)
        for number, block in enumerate(blocks)
    ]
    head = HFHead(norm, getattr(model, "lm_head", None), padded)
    first = embedding if padding is None else Attach(embedding, padding)
    return [first, *layers, head]


def _gpt2_parts(core: Any) -> tuple[nn.Module, list[nn.Module], nn.Module, None]:
    return GPT2Embedding(core.wte, core.wpe, core.drop), list(core.h), core.ln_f, None


def _llama_parts(core: Any) -> tuple[nn.Module, list[nn.Module], nn.Module, nn.Module]:
    return core.embed_tokens, list(core.layers), core.norm, core.rotary_emb


def _refuse_checkpointing(block: nn.Module) -> None:
    """Raise if the block runs its forward again by itself: dropout would draw other masks."""
    if getattr(block, "gradient_checkpointing", False):
        raise ValueError(
            "the model has gradient checkpointing on, whose second forward would draw other "
            "dropout masks: switch it off in the model, and use Pipeline(…, recompute=True)"
        )


def _check_padding(padding: object) -> None:
    whole = isinstance(padding, int) and not isinstance(padding, bool)
    if not (padding is None or padding == "mask" or whole):
        raise ValueError(
            f"padding={padding!r}: give the id of the padding token, 'mask' for inputs that bring "
            f"their mask, or None"
        )


def read_config(path: Path) -> Any:
    """Return the config in a file, of a multi-modal model that of its text decoder.

    Nothing is fetched, and no code beside the file is run.

    Raises:
        ValueError: the file holds no config of a decoder that the library knows, or its text
            decoder is none that `layers_of` knows.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        kind = values.pop("model_type")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError(
            f"{path}: this is no config of a Hugging Face model: it must be JSON with a "
            f"'model_type', such as \"llama\""
        ) from None
    known = f"known are {', '.join(WINDOWED)}"
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(f"{path}: transformers has no model_type {shortened(kind)}; {known}")
    for unwanted in ("auto_map", "quantization_config", "torch_dtype", "dtype"):
        values.pop(unwanted, None)
    try:
        with _quiet():
            config = AutoConfig.for_model(kind, **values)
            text = config.get_text_config(decoder=True)
    except Exception as error:  # each model checks its own fields, with errors of many kinds
        raise ValueError(f"{path}: {_one_line(error)}") from error
    if text.model_type not in (kind, *WINDOWED):
        raise ValueError(
            f"{path}: {kind} has several parts, of which the text decoder alone can be cut, and "
            f"its text decoder {text.model_type} is not known; {known}"
        )
    if text.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(f"{path}: model_type {kind!r}: this is no decoder of text; {known}")
    _check_sizes(path, text)
    return text


def _check_sizes(path: Path, config: Any) -> None:
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        size = getattr(config, name, 1)
        if isinstance(size, int) and size < 1:
            raise ValueError(f"{path}: {name} is {size}: give at least 1")


def build(config: Any) -> nn.Module:
    """Return the config's model with a language head, its weights drawn at random.

    Raises:
        ValueError: there is no such model, or its sizes do not fit together.
    """
    try:
        with _quiet():
            model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return model
    except Exception as error:  # as above
        raise ValueError(f"model_type {config.model_type!r}: {_one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's warnings back."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _one_line(error: Exception) -> str:
    text = cut(" ".join(str(error).split()), 200)
    if text and not isinstance(error, LookupError | ArithmeticError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")  # "'swish'" alone says nothing
