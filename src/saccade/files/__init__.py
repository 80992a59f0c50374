"""Model files and packed files: a file is the function that it was saved from, or is refused."""

from saccade.files.fingerprint import fingerprint
from saccade.files.model_file import load_model, load_weights, model_info, save_model, unwrapped
from saccade.files.packed import load_packed, packed_info, save_packed
from saccade.files.tensors import fit_weights

__all__ = [
    "fingerprint",
    "fit_weights",
    "load_model",
    "load_packed",
    "load_weights",
    "model_info",
    "packed_info",
    "save_model",
    "save_packed",
    "unwrapped",
]
