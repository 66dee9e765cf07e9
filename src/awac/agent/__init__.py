"""The class AWAC for notebooks and scripts that bring their own networks."""

from awac.algorithm import backend as backend  # before MindSpore is imported

# isort: split
from awac.agent.awac import AWAC

__all__ = ["AWAC"]
