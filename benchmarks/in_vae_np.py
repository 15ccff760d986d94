"""The contestant vae_np, on any of its backends."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Trainer
from benchmarks.workloads import ADAM, Workload
from vae_np import elbo, steps


class VaeNp(Trainer):
    """vae_np's own training steps."""

    def __init__(
        self, workload: Workload, threads: int, backend: str, dtype: str = "float32", precision: str = "float32"
    ) -> None:
        self.workload, self.threads, self.backend, self.precision = workload, threads, backend, precision
        self.model = elbo.bind(workload.architecture, backend=backend, precision=precision)
        self.data = self.model.put(workload.dataset())
        self.initial = workload.parameters(dtype)
        self.p = self.initial.copy().moved(self.model.put)
        self.state = {name: self.model.put(array) for name, array in ADAM.initial_state(self.initial).items()}
        self.steppers = {}
        self.restart()

    def restart(self) -> None:
        self.p.flat[...] = self.model.put(self.initial.flat)
        for array in self.state.values():
            array[...] = 0
        self.done = 0

    def prepare(self, rows: NDArray) -> None:
        size, w = rows.shape[1], self.workload
        if size not in self.steppers:
            self.steppers[size] = steps.stepper(
                self.p,
                self.state,
                ADAM,
                self.data,
                size,
                w.objective,
                w.n_samples,
                seed=w.seed,
                backend=self.backend,
                threads=self.threads,
                precision=self.precision,
            )
        self.rows = rows
        self.model.get(self.p.flat[:1])  # which waits until a device has done its earlier work

    def run(self) -> NDArray:
        terms = self.steppers[self.rows.shape[1]](self.rows, self.done + 1, 1.0, ADAM.learning_rate)
        self.done += len(self.rows)
        return terms

    def losses(self, rows: NDArray) -> NDArray:
        self.restart()
        self.prepare(rows)
        return self.run()[:, 0]

    def parameters(self) -> NDArray:
        return np.array(self.model.get(self.p.flat))
