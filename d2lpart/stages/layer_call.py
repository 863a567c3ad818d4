"""One call of a layer in a stage: one tensor in, one tensor out, and why it failed if it did."""

from torch import Tensor, nn

from d2lpart.memory.failures import told


def call(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the output of a layer.

    Raises:
        ValueError: it overwrites the activation that its stage has received, or returns something
            else than one tensor.
    """
    try:
        outputs = layer(inputs)
    except RuntimeError as error:
        if "leaf Variable that requires grad" in told(error) and _takes_a_copy(layer, inputs):
            raise ValueError(
                "the layer overwrites the input of its stage in place, but whoever made that may "
                "still need it: make a new tensor (x = x + 1, torch.relu(x), inplace=False), or "
                "cut after this layer"
            ) from error
        raise
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the layer returned {type(outputs).__name__}: a layer hands one tensor to the next"
        )
    return outputs


def _takes_a_copy(layer: nn.Module, inputs: Tensor) -> bool:
    """Say whether the layer runs on a copy of what it failed on: then its weights are not it."""
    try:
        layer(inputs.clone())
    except Exception:
        return False
    return True
