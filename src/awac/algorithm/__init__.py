"""The algorithm: losses, networks, policy, optimiser and the compiled learner. It uses no files and no environments."""

from awac.algorithm import backend as backend
