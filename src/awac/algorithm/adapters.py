"""Adapts the caller's networks to the gradient step: a head for the actor, one cell for the critics."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from awac.algorithm.heads import CategoricalHead, GaussianHead, at_action
from awac.algorithm.networks import MLP
from awac.algorithm.policy import ContinuousCritic, DiscreteCritic


class UserGaussian(GaussianHead):
    """A network that maps states (B, S) to mean (B, A) and log-std (B, A) or (1, A)."""

    def __init__(self, net: nn.Cell, state_size: int, action_size: int):
        super().__init__(auto_prefix=False)
        self.net, self.obs_size, self.columns = net, state_size, action_size

    def construct(self, obs):
        mean, log_std = self.net(obs)
        return mean.astype(ms.float32), log_std.astype(ms.float32)  # of networks in mixed precision


class UserCategorical(CategoricalHead):
    """A network that maps states (B, S) to logits (B, A)."""

    def __init__(self, net: nn.Cell, state_size: int):
        super().__init__(auto_prefix=False)
        self.net, self.obs_size, self.columns = net, state_size, 1
        if type(net) is MLP:
            self.trunk = net

    def construct(self, obs):
        return ops.log_softmax(self.net(obs).astype(ms.float32), -1)


class UserCritic(nn.Cell):
    """One or two critics, of states for discrete actions, else of states and actions; each may hold several."""

    def __init__(self, nets, discrete: bool):
        super().__init__(auto_prefix=False)
        self.nets, self.copies, self.discrete = nn.CellList(nets, auto_prefix=False), len(nets), discrete
        if discrete and len(nets) == 1 and type(nets[0]) is MLP:
            self.net = nets[0]

    def construct(self, obs, action):
        """(C, B) values at the given actions."""
        if self.discrete:
            return at_action(self.all_actions(obs), action)
        return ops.concat([self.nets[i](obs, action).reshape(-1, obs.shape[0]) for i in range(self.copies)])

    def all_actions(self, obs):
        """(C, B, A) values of all actions."""
        values = [self.nets[i](obs) for i in range(self.copies)]
        return ops.concat([q if q.ndim == 3 else ops.expand_dims(q, 0) for q in values])


def head(actor: nn.Cell, state_size: int, action_size: int, discrete: bool, samples: int | None):
    """The actor as a head that draws `samples` actions for V(s)."""
    if isinstance(actor, (GaussianHead, CategoricalHead)):
        result = actor
    else:
        result = UserCategorical(actor, state_size) if discrete else UserGaussian(actor, state_size, action_size)
    result.samples = samples
    return result


def critic(nets: list[nn.Cell], discrete: bool):
    """The critics as one cell; a single network that already holds both twins is used as it is."""
    whole = len(nets) == 1 and isinstance(nets[0], (ContinuousCritic, DiscreteCritic))
    return nets[0] if whole else UserCritic(nets, discrete)
