"""Federated split fine-tuning of language models: clients hold the first blocks and the data, a server the rest."""

from saccade.split.aggregate import AGGREGATORS
from saccade.split.codecs import CODECS
from saccade.split.lora import LoraPlan
from saccade.split.parts import Parts, split_causal_lm

__all__ = ["AGGREGATORS", "CODECS", "LoraPlan", "Parts", "split_causal_lm"]
