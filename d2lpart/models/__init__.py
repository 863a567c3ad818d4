"""The networks: a decoder, a LeNet, Hugging Face's decoders, each as an explicit list of layers.

Read `decoder` first; `layers` finds the layers of a model that somebody else has written.
"""

__all__ = ["by_name", "convnet", "decoder", "generation", "layers", "text"]
