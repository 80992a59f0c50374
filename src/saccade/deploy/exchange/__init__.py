"""Networks in the formats of others: NIR out and in, ONNX out."""

from saccade.deploy.exchange.nir_in import NirNetwork, from_nir, read_nir
from saccade.deploy.exchange.nir_out import to_nir, write_nir
from saccade.deploy.exchange.onnx_out import Exported, export_onnx, relu_twin

__all__ = ["Exported", "NirNetwork", "export_onnx", "from_nir", "read_nir", "relu_twin", "to_nir", "write_nir"]
