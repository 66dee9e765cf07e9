"""The algorithm: losses, networks, policy, optimiser and the compiled learner. Knows no file and no environment."""

from awac.algorithm import backend as backend
