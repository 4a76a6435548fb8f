"""How fast the machine is while it trains: a fixed workload, timed between training's steps.

The same training takes a quarter more CPU time on a shared or a hot machine than on an idle one. Counted
in passes of this workload, the difference is 2 to 4 %, so that is what a change is held to.
"""

from __future__ import annotations

import math
import time

PAUSE = 0.1  # least seconds from one pass to the next: a pass takes 3 % of that
STACK, SIDE = 64, 64  # SIDE^3 is small enough for one BLAS thread, whatever the machine's setting
ELEMENTS = 1 << 19
LOOPS = 24_000


class Pace:
    """Passes of the reference workload: a third each of matmul, memory traffic and Python."""

    def __init__(self) -> None:
        import numpy as np

        random = np.random.default_rng(0)
        self.left = random.standard_normal((STACK, SIDE, SIDE), dtype=np.float32)
        self.right = random.standard_normal((SIDE, SIDE), dtype=np.float32)
        self.product = np.empty_like(self.left)
        self.array = random.standard_normal(ELEMENTS, dtype=np.float32)
        self.result = np.empty_like(self.array)
        self.passes = 0
        self.cpu_seconds = 0.0
        self.last = -PAUSE
        self._work()  # the first touch of the arrays is not like the others

    def keep(self) -> float:
        """One pass, if the last was long enough ago; returns the seconds that training waited for it."""
        began, cpu = time.monotonic(), time.thread_time()
        if began - self.last < PAUSE:
            return 0.0
        self._work()
        self.cpu_seconds += time.thread_time() - cpu
        self.passes += 1
        self.last = time.monotonic()
        return self.last - began

    def work(self, cpu_seconds: float) -> float:
        """CPU time in units of what one pass took meanwhile; NaN if there was none."""
        return cpu_seconds * self.passes / self.cpu_seconds if self.passes else math.nan

    def _work(self) -> None:
        import numpy as np

        for _ in range(2):
            np.matmul(self.left, self.right, out=self.product)
            np.multiply(self.array, 1.0001, out=self.result)
            np.maximum(self.result, 0, out=self.result)
            np.add(self.result, self.array, out=self.result)
        total = 0
        for number in range(LOOPS):
            total += number
