"""The class AWAC for notebooks and scripts that bring their own networks."""

from awac.agent.awac import AWAC

__all__ = ["AWAC"]
