"""The layers of a model as an explicit list, each taking and returning one tensor."""

import inspect
import sys
from collections.abc import Sequence
from inspect import Parameter

from torch import nn

from d2lpart.models.padding import PaddingSource

# Of Hugging Face's transformers; by name, so that the library is loaded for its own models only.
OLDEST = (5, 12)  # its mask functions take their arguments in the order used here
GPT2 = ("GPT2LMHeadModel", "GPT2Model")
LLAMA_STYLE = tuple(
    name + end
    for name in ("Llama", "Mistral", "Phi3", "Qwen2", "Qwen3")
    for end in ("ForCausalLM", "Model")
)


def layers_of(
    model: nn.Module | Sequence[nn.Module], padding: PaddingSource = None
) -> list[nn.Module]:
    """Return the layers of a model in order, ready for `Pipeline`, `profile` and `partition`.

    Run one after another they compute what the model computes, with the model's own modules and
    parameters: to train the layers is to train the model. Nothing is copied but the table of
    frequencies of rotary embeddings, which each block gets for itself.

    A Hugging Face decoder becomes `[embedding, block, …, block, head]`: token ids (B, T) go in,
    logits (B, T, V) come out, or the last hidden states (B, T, C) of a model without a language
    head. Positions count from 0, attention is causal, with the sliding window that the model has,
    and nothing is cached. Where the attention kernel needs a mask, for padding and for windows,
    each block makes its own, of up to B·T·T values, where the original shares one. In training,
    `Pipeline` draws dropout for each layer and micro-batch by itself, so it is the same however the
    model is cut, and another than the original's.

    Args:
        model: an `nn.Sequential` (a `Decoder` is one), a list of modules, or one of Hugging Face's
            GPT-2, Llama, Mistral, Phi-3, Qwen2 and Qwen3 decoders, with or without its head.
        padding: for a Hugging Face decoder, which tokens nobody may look at, as its
            `attention_mask` says. None: there are none. A whole number: the tokens with this id.
            "mask": the input is `torch.stack([ids, attention_mask], dim=-1)`, (B, T, 2), with 1
            for a token and 0 for padding. The mask then rides along as one more column of the
            activation: each cut carries (B, T, C + 1) numbers, 1/C more, in both directions.

    Raises:
        ValueError: a model it does not know, a version of transformers it does not know, or
            `padding` for a model that has no such thing.

    >>> layers_of(nn.Sequential(nn.Linear(4, 8), nn.ReLU()))
    [Linear(in_features=4, out_features=8, bias=True), ReLU()]
    """
    if _from_transformers(model):
        _check_version(sys.modules["transformers"].__version__)
        from d2lpart.models.hugging_face import decoder_layers

        return decoder_layers(model, padding)
    if not _in_sequence(model):
        raise ValueError(_unknown(model))
    layers = listed(model)
    if padding is not None:
        raise ValueError(
            f"padding={padding!r} for {type(model).__name__}: only Hugging Face decoders have a "
            f"padding mask; leave padding out"
        )
    return layers


def _from_transformers(model: object) -> bool:
    """Say whether this is exactly a class of the library, not one derived from it."""
    kind = type(model)
    known = kind.__name__ in GPT2 or kind.__name__ in LLAMA_STYLE
    return known and kind.__module__.startswith("transformers.models.")


def _check_version(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ValueError(
            f"transformers {version} is older than {'.'.join(map(str, OLDEST))}, the oldest that "
            f"layers_of knows: update it"
        )


def listed(layers: object) -> list[nn.Module]:
    """Return layers as a list of at least one module.

    Raises:
        ValueError: they are no sequence of modules, there are none, or one takes no single tensor.
    """
    try:
        each = iter(layers)  # type: ignore[call-overload]
    except TypeError:
        raise ValueError(
            f"{type(layers).__name__} is no list of layers: give layers_of(model), or a list of "
            f"modules that each take and return one tensor"
        ) from None
    found = list(each)
    if not found:
        raise ValueError("there are no layers: give at least one module")
    for number, layer in enumerate(found):
        if not isinstance(layer, nn.Module):
            raise ValueError(
                f"layer {number} is {type(layer).__name__}, not a torch.nn.Module: wrap a function "
                f"in a module, and give the layers as a list or an nn.Sequential"
            )
        _check_arguments(number, layer)
    return found


def _check_arguments(number: int, layer: nn.Module) -> None:
    """Raise unless the layer can be called with one tensor, as far as its forward says."""
    if layer._forward_pre_hooks:  # these may give it more
        return
    try:
        parameters = inspect.signature(layer.forward).parameters.values()
    except (TypeError, ValueError):  # written in another language
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    more = [*positional[1:], *(p for p in parameters if p.kind is Parameter.KEYWORD_ONLY)]
    missing = [p.name for p in more if p.default is Parameter.empty]
    if missing or not (positional or takes_any):
        lacks = f"also wants {' and '.join(missing)}" if missing else "takes nothing"
        raise ValueError(
            f"layer {number} ({type(layer).__name__}) {lacks}, but a layer takes one tensor: wrap "
            f"it in a module whose forward(x) supplies the rest; for the padding mask of a Hugging "
            f"Face decoder use layers_of(model, padding=…)"
        )


def _in_sequence(model: object) -> bool:
    """Say whether this is a list, or a module that runs its children one after another."""
    if isinstance(model, nn.Sequential):
        return type(model).forward is nn.Sequential.forward
    return isinstance(model, list | tuple | nn.ModuleList)


def _unknown(model: object) -> str:
    """Say what is known, and what to give instead, with the children that the model has."""
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        return f"{kind} is no model: give a torch.nn.Module, or a list of modules"
    names = [name for name, _ in model.named_children()]
    has = f" (its children: {', '.join(names)})" if names else ""
    return (
        f"layers_of does not know {kind}{has}, since nothing says in which order its parts run: it "
        f"knows nn.Sequential, lists of modules, and Hugging Face's {', '.join(GPT2)}, "
        f"{', '.join(LLAMA_STYLE)}; give a list of modules that each take and return one tensor, "
        f"such as [model.embedding, *model.blocks, model.head]"
    )
