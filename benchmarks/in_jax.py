"""The same model in JAX: a pure function from state to state, compiled whole."""

import functools
import math
import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is for the other contestants too

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import ADAM

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "softplus": jax.nn.softplus}


def loss(p, x, eps, arch):
    """The loss of the batch x (B, D), in nats."""
    activation = ACTIVATIONS[arch.activation]
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


def adam(p, g, m, v, t):
    """p, m and v after update number t"""
    b1, b2 = ADAM.beta1, ADAM.beta2
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    m_scale, v_scale = -1 / jnp.expm1(t * math.log(b1)), -1 / jnp.expm1(t * math.log(b2))
    p = jax.tree.map(lambda p, m, v: p - ADAM.learning_rate * (m * m_scale) / (jnp.sqrt(v * v_scale) + ADAM.epsilon), p, m, v)
    return p, m, v


def step(state, data, rows, eps, shape, arch):
    """A training step on data[rows] with noise eps, or with its own of that shape where eps is None: (state, loss)."""
    p, m, v, t, key = state
    if eps is None:
        key, own = jax.random.split(key)
        eps = jax.random.normal(own, shape)
    x = data[rows].astype(jnp.float32) / 255
    value, g = jax.value_and_grad(loss)(p, x, eps, arch)
    return (*adam(p, g, m, v, t + 1), t + 1, key), value


class Jit:
    """A call for each step, its buffers donated."""

    note = ""

    def __init__(self, workload, threads, device="cpu"):  # the number of threads is that of the process's cores
        if device == "gpu":
            jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
        self.workload, self.device = workload, jax.devices(device)[0]
        self.data = jax.device_put(workload.dataset(), self.device)
        self.initial = workload.parameters()
        self.step = jax.jit(step, static_argnums=(4, 5), donate_argnums=0)
        self.restart()

    def restart(self):
        p = {name: jnp.array(array) for name, array in self.initial.items()}
        m, v = (jax.tree.map(jnp.zeros_like, p) for _ in range(2))
        # XLA's own generator, which is cheaper on a CPU than JAX's default.
        state = p, m, v, jnp.float32(0), jax.random.key(self.workload.seed, impl="rbg")
        self.state = jax.device_put(state, self.device)
        jax.block_until_ready(self.state)

    def ready(self, rows):
        self.rows = [jax.device_put(r.astype(np.int32), self.device) for r in rows]
        self.shape = self.workload.n_samples, rows.shape[1], self.workload.architecture.n_latent

    def go(self):
        for rows in self.rows:
            self.state, _ = self.step(self.state, self.data, rows, None, self.shape, self.workload.architecture)
        jax.block_until_ready(self.state)

    def losses(self, rows):
        self.restart()
        self.ready(rows)
        values = []
        for own, eps in zip(self.rows, self.workload.eps(rows)):
            self.state, value = self.step(self.state, self.data, own, eps, self.shape, self.workload.architecture)
            values.append(float(value))
        return values

    def parameters(self):
        p = self.initial.copy()
        for name, array in self.state[0].items():
            p[name][...] = np.asarray(array)
        return p.flat


class Scan(Jit):
    """One call for many steps: a loop that is compiled too."""

    def __init__(self, workload, threads, device="cpu"):
        super().__init__(workload, threads, device)

        @functools.partial(jax.jit, static_argnums=4, donate_argnums=0)
        def many(state, data, rows, eps, shape):
            def one(state, batch):
                return step(state, data, *batch, shape, workload.architecture)

            return jax.lax.scan(one, state, (rows, eps))

        self.many = many

    def ready(self, rows):
        super().ready(rows[:0])
        self.rows = jax.block_until_ready(jax.device_put(rows.astype(np.int32), self.device))

    def go(self):
        self.state, _ = self.many(self.state, self.data, self.rows, None, self.shape)
        jax.block_until_ready(self.state)

    def losses(self, rows):
        self.restart()
        self.ready(rows)
        self.state, values = self.many(self.state, self.data, self.rows, self.workload.eps(rows), self.shape)
        return np.asarray(values).tolist()
