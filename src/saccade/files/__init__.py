"""Model files and packed files: a file is the function that it was saved from, or is refused."""

from saccade.files.fingerprint import fingerprint
from saccade.files.model_file import load_model, load_weights, model_info, save_model, unwrapped
from saccade.files.opening import Opened, model_file, open_model
from saccade.files.packed import load_packed, packed_info, save_packed
from saccade.files.tensors import fit_weights

__all__ = [
    "Opened",
    "fingerprint",
    "fit_weights",
    "load_model",
    "load_packed",
    "load_weights",
    "model_file",
    "model_info",
    "open_model",
    "packed_info",
    "save_model",
    "save_packed",
    "unwrapped",
]
