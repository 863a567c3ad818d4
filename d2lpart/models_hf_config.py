"""A Hugging Face decoder with random weights, from a config.json that lies on this machine."""

import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging


def read_config(path: Path) -> Any:
    """Return the config in a file; nothing is fetched, and no code beside the file is run.

    Raises:
        ValueError: the file holds no config of a model that the library knows.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        kind = values.pop("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError):
        raise ValueError(
            f"{path}: this is no config of a Hugging Face model: it must be JSON with a "
            f"'model_type', such as \"llama\""
        ) from None
    for unwanted in ("auto_map", "quantization_config", "torch_dtype", "dtype"):
        values.pop(unwanted, None)
    try:
        return AutoConfig.for_model(kind, **values)
    except Exception as error:  # each model checks its own fields, with errors of many kinds
        raise ValueError(f"{path}: {_one_line(error)}") from error


def build(config: Any) -> nn.Module:
    """Return the config's model with a language head, its weights drawn at random.

    Raises:
        ValueError: there is no such model, or its sizes do not fit together.
    """
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return model
    except Exception as error:  # as above
        raise ValueError(f"model_type {config.model_type!r}: {_one_line(error)}") from error
    finally:
        logging.set_verbosity(level)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
