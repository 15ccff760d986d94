"""The contestant JAX: the same model as a pure function from state to state, which is compiled whole."""

import functools
import math
import os
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the other contestants need the GPU's memory too

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import Trainer, note_of_rounding
from benchmarks.workloads import ADAM, Workload
from vae_np.architecture import Architecture

# JAX's functions have the names of the activations. Of this one it takes an approximation unless it is told otherwise.
ACTIVATIONS = {"gelu": functools.partial(jax.nn.gelu, approximate=False)}


def loss(p: dict[str, jax.Array], x: jax.Array, eps: jax.Array, arch: Architecture) -> jax.Array:
    """Return the loss of the batch x (B, D) with the noise eps (L, B, Z), in nats."""
    activation = ACTIVATIONS.get(arch.activation) or getattr(jax.nn, arch.activation)
    h = x
    for i in range(len(arch.hidden)):
        h = activation(h @ p[f"encoder.{i}.W"] + p[f"encoder.{i}.b"])
    mu, logvar = h @ p["mu.W"] + p["mu.b"], h @ p["logvar.W"] + p["logvar.b"]
    z = h = mu + jnp.exp(logvar / 2) * eps
    for i in range(len(arch.hidden)):
        h = activation(h @ p[f"decoder.{i}.W"] + p[f"decoder.{i}.b"])
    logits = h @ p["output.W"] + p["output.b"]
    nll = jnp.sum(jnp.maximum(logits, 0) - x * logits + jnp.log1p(jnp.exp(-jnp.abs(logits))), axis=-1)
    if len(eps) == 1:
        kl = jnp.sum(mu * mu + jnp.exp(logvar) - 1 - logvar, axis=-1) / 2
        return jnp.mean(nll[0] + kl)
    kl = jnp.sum(z * z - eps * eps - logvar, axis=-1) / 2
    return jnp.mean(math.log(len(eps)) - jax.nn.logsumexp(-nll - kl, axis=0))


def adam(p: Any, g: Any, m: Any, v: Any, t: jax.Array) -> tuple[Any, Any, Any]:
    """Return p, m and v after the update number t by the gradient g."""
    b1, b2 = ADAM.beta1, ADAM.beta2
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    m_scale, v_scale = -1 / jnp.expm1(t * math.log(b1)), -1 / jnp.expm1(t * math.log(b2))
    p = jax.tree.map(lambda p, m, v: p - ADAM.learning_rate * (m * m_scale) / (jnp.sqrt(v * v_scale) + ADAM.epsilon), p, m, v)
    return p, m, v


def step(
    state: tuple, data: jax.Array, rows: jax.Array, eps: jax.Array | None, shape: tuple[int, int, int], arch: Architecture
) -> tuple[tuple, jax.Array]:
    """Make a training step on data[rows] and return (state, loss). Where eps is None, noise of that shape is drawn here."""
    p, m, v, t, key = state
    if eps is None:
        key, own = jax.random.split(key)
        eps = jax.random.normal(own, shape)
    x = data[rows].astype(jnp.float32) / 255
    value, g = jax.value_and_grad(loss)(p, x, eps, arch)
    return (*adam(p, g, m, v, t + 1), t + 1, key), value


class Jit(Trainer):
    """A call of a compiled function for each step, which may overwrite the arrays of the last one."""

    def __init__(self, workload: Workload, threads: int, device: str = "cpu", precision: str = "float32") -> None:
        """JAX has no setting for `threads`: it uses the cores that its process is pinned to."""
        if precision != "float32" or device == "gpu":  # where float32 must be asked for: else it would be TF32
            jax.config.update("jax_default_matmul_precision", precision)
        self.note = "" if precision == "float32" else note_of_rounding(workload, jax.jit(jnp.matmul))
        self.workload, self.device = workload, jax.devices(device)[0]
        self.data = jax.device_put(workload.dataset(), self.device)
        self.initial = workload.parameters()
        self.step = jax.jit(step, static_argnums=(4, 5), donate_argnums=0)
        self.restart()

    def restart(self) -> None:
        p = {name: jnp.array(array) for name, array in self.initial.items()}
        m, v = (jax.tree.map(jnp.zeros_like, p) for _ in range(2))
        # XLA's own generator takes less time on a CPU than JAX's default.
        state = p, m, v, jnp.float32(0), jax.random.key(self.workload.seed, impl="rbg")
        self.state = jax.device_put(state, self.device)
        jax.block_until_ready(self.state)

    def prepare(self, rows: NDArray) -> None:
        self.rows: Any = [jax.device_put(r.astype(np.int32), self.device) for r in rows]
        self.shape = self.workload.n_samples, rows.shape[1], self.workload.architecture.n_latent

    def run(self) -> None:
        for rows in self.rows:
            self.state, _ = self.step(self.state, self.data, rows, None, self.shape, self.workload.architecture)
        jax.block_until_ready(self.state)

    def losses(self, rows: NDArray) -> list[float]:
        self.restart()
        self.prepare(rows)
        values = []
        for own, eps in zip(self.rows, self.workload.eps(rows)):
            self.state, value = self.step(self.state, self.data, own, eps, self.shape, self.workload.architecture)
            values.append(float(value))
        return values

    def parameters(self) -> NDArray:
        p = self.initial.copy()
        for name, array in self.state[0].items():
            p[name][...] = np.asarray(array)
        return p.flat


class Scan(Jit):
    """One call of a compiled loop for many steps."""

    def __init__(self, workload: Workload, threads: int, device: str = "cpu", precision: str = "float32") -> None:
        super().__init__(workload, threads, device, precision)

        @functools.partial(jax.jit, static_argnums=4, donate_argnums=0)
        def many(state, data, rows, eps, shape):
            def one(state, batch):
                rows, eps = batch
                return step(state, data, rows, eps, shape, workload.architecture)

            return jax.lax.scan(one, state, (rows, eps))

        self.many = many

    def prepare(self, rows: NDArray) -> None:
        super().prepare(rows[:0])
        self.rows = jax.block_until_ready(jax.device_put(rows.astype(np.int32), self.device))

    def run(self) -> None:
        self.state, _ = self.many(self.state, self.data, self.rows, None, self.shape)
        jax.block_until_ready(self.state)

    def losses(self, rows: NDArray) -> list[float]:
        self.restart()
        self.prepare(rows)
        self.state, values = self.many(self.state, self.data, self.rows, self.workload.eps(rows), self.shape)
        return np.asarray(values).tolist()
