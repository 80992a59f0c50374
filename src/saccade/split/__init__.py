"""Federated split fine-tuning of language models: clients hold the first blocks and the data, a server the rest."""

from saccade.split.aggregate import AGGREGATORS
from saccade.split.codecs import CODECS
from saccade.split.cuts import CUTS
from saccade.split.ledger import Ledger
from saccade.split.lora import LoraPlan
from saccade.split.partition import length_dirichlet, partition_report
from saccade.split.parts import Parts, split_causal_lm

__all__ = [
    "AGGREGATORS",
    "CODECS",
    "CUTS",
    "Ledger",
    "LoraPlan",
    "Parts",
    "length_dirichlet",
    "partition_report",
    "split_causal_lm",
]
