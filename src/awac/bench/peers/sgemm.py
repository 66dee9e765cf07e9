"""The step's matrix products and nothing else, by numpy's BLAS or by MindSpore's kernel: the ceiling of every other."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from worker import serve


class Products:
    """Each distinct shape as often as the step has it, into buffers that are there already."""

    def __init__(self, settings, weights, rows):
        counts = Counter(tuple(shape) for shape in settings["products"])
        random = np.random.default_rng(0).standard_normal
        self.work = [
            (random((m, k), np.float32), random((k, n), np.float32), np.empty((m, n), np.float32), count)
            for (m, k, n), count in counts.items()
        ]

    def run(self):
        for a, b, out, count in self.work:
            for _ in range(count):
                np.dot(a, b, out=out)
        return 1


class MindSporeProducts(Products):
    """The same products in one graph; those of one shape as a batched product."""

    STEPS = 20

    def __init__(self, settings, weights, rows):
        import mindspore as ms
        from mindspore import nn, ops

        super().__init__(settings, weights, rows)
        steps = self.STEPS
        ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")

        class Step(nn.Cell):
            def __init__(self, work):
                super().__init__()
                self.count = len(work)
                self.product = ops.BatchMatMul()
                tile = [(np.broadcast_to(a, (n, *a.shape)), np.broadcast_to(b, (n, *b.shape))) for a, b, _, n in work]
                pairs = [[ms.Parameter(ms.Tensor(x.copy()), name=f"{side}{i}") for i, x in enumerate(group)]
                         for side, group in zip("ab", zip(*tile, strict=True), strict=True)]  # fmt: skip
                self.left, self.right = (ms.ParameterTuple(group) for group in pairs)

            def construct(self, first):
                k, total = first, ops.zeros((1, 1, 1), ms.float32)
                while k < steps:
                    for i in range(self.count):
                        out = self.product(self.left[i], self.right[i])
                        total = total + ops.slice(out, (0, 0, 0), (1, 1, 1))
                    k = k + 1
                return total

        self.step, self.first = Step(self.work), ms.Tensor(0, ms.int32)

    def run(self):
        self.step(self.first).asnumpy()
        return self.STEPS


if __name__ == "__main__":
    serve(MindSporeProducts if "--mindspore" in sys.argv else Products)
