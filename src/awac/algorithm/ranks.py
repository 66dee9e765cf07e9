"""One learner over several processes: what they exchange inside a gradient step.

MindSpore's msrun starts the processes, its ranks. All run the same program from the same seeds, so they hold the
same networks and draw the same rows and noise; each computes on its share of a batch's rows. What a step needs of the
whole batch is summed over the ranks: advantages (the weights of eq. 13 may depend on all of them), gradients, metrics.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mindspore import Tensor, communication, nn, ops


def join() -> None:
    """Joins the processes that msrun has started; without msrun it does nothing.

    In msrun's scheduler process, which computes nothing, it returns when the others have ended.
    """
    if os.environ.get("MS_ROLE"):
        communication.init()


class Ranks(nn.Cell):
    """The ranks of this run. With a single rank each method returns its argument.

    Attributes:
        rank: of this process.
        size: how many there are.
    """

    def __init__(self):
        super().__init__(auto_prefix=False)
        joined = communication.GlobalComm.INITED
        self.rank: int = communication.get_rank() if joined else 0
        self.size: int = communication.get_group_size() if joined else 1
        self.sum: Any = ops.AllReduce() if self.size > 1 else None

    def share(self, rows: np.ndarray, axis: int) -> np.ndarray:
        """This rank's part of a batch, whose length `size` must divide."""
        return np.ascontiguousarray(np.split(rows, self.size, axis)[self.rank])

    def wait(self) -> None:
        """Returns when every rank has called it."""
        if self.size > 1:
            self(Tensor(np.zeros(1, np.float32)))

    # What follows is compiled.

    def construct(self, x):
        return self.sum(x)

    def mean(self, x):
        """The mean of x over the ranks."""
        return x if self.size == 1 else self.sum(x) / self.size

    def root_mean_square(self, x):
        """The root mean square of x over the ranks."""
        return x if self.size == 1 else ops.sqrt(self.mean(ops.square(x)))

    def mean_gradients(self, gradients):
        """The mean of each gradient, in one message."""
        if self.size == 1:
            return gradients
        flat = self.sum(ops.concat([gradient.reshape(-1) for gradient in gradients])) / self.size
        means: tuple = ()
        start = 0
        for gradient in gradients:
            means += (flat[start : start + gradient.size].reshape(gradient.shape),)
            start += gradient.size
        return means

    def gather(self, x):
        """x (b,) of all ranks in order, (size · b,). It is done with a sum, the only exchange there is on a CPU."""
        if self.size == 1:
            return x
        before, after = self.rank * x.shape[0], (self.size - 1 - self.rank) * x.shape[0]
        return self.sum(ops.concat((ops.zeros((before,), x.dtype), x, ops.zeros((after,), x.dtype))))

    def own(self, x):
        """The inverse of `gather`."""
        if self.size == 1:
            return x
        rows = x.shape[0] // self.size
        return x[self.rank * rows : (self.rank + 1) * rows]
