from saccade.measure.profiler import profile

__all__ = ["profile"]
