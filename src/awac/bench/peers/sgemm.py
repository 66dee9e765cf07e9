"""One 2048 × 2048 × 2048 product by one library: what the machine can do at best, whatever the step's own shapes."""

from __future__ import annotations

import sys

import libraries
import numpy as np
from worker import serve

SIZE = 2048


class Numpy:
    """OpenBLAS."""

    def __init__(self, settings, weights, rows):
        left, right = np.random.default_rng(0).standard_normal((2, SIZE, SIZE), np.float32)
        self.product = self.prepare(left, right)

    def prepare(self, left, right):
        out = np.empty_like(left)
        return lambda: np.dot(left, right, out=out)

    def run(self):
        self.product()
        return 1

    def about(self):
        return libraries.numpy_isa(), libraries.processors()


class MindSpore(Numpy):
    """oneDNN of the version that MindSpore brings along."""

    def prepare(self, left, right):
        import mindspore as ms
        from mindspore import ops

        ms.set_context(device_target="CPU")
        product, pair = ops.MatMul(), (ms.Tensor(left), ms.Tensor(right))
        return lambda: product(*pair).asnumpy()

    def about(self):
        return libraries.mindspore_isa(), libraries.processors()


class Torch(Numpy):
    """MKL."""

    def prepare(self, left, right):
        import torch

        left, right = torch.from_numpy(left), torch.from_numpy(right)
        out = torch.empty_like(left)
        return lambda: torch.mm(left, right, out=out)

    def about(self):
        import torch

        return libraries.torch_isa(), torch.get_num_threads()


class Jax(Numpy):
    """What XLA calls."""

    def prepare(self, left, right):
        import jax

        pair, product = (jax.device_put(left), jax.device_put(right)), jax.jit(lambda a, b: a @ b)
        return lambda: product(*pair).block_until_ready()

    def about(self):
        return libraries.jax_isa(), libraries.processors()


if __name__ == "__main__":
    serve({"numpy": Numpy, "mindspore": MindSpore, "torch": Torch, "jax": Jax}[sys.argv[1]])
