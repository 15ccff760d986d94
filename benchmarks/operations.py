"""Each operation of a kernel set alone: what it must move and compute, and how long it takes."""

import contextlib
import math
import time
from typing import NamedTuple

import numpy as np

from benchmarks import machine, measure
from vae_np import kernels
from vae_np.testing.operations import OPERATIONS, check_operation, random_arguments


class Sizes(NamedTuple):
    B: int  # examples
    D: int  # inputs
    H: int  # hidden units
    Z: int  # latents
    L: int  # samples of each example


EXAMPLE = Sizes(128, 784, 400, 20, 1)  # of the workload `example`; the layers are its largest one
# Between two restorations of what an operation changes: scaled again and again, it would leave the normal numbers.
CALLS = 8


class Cost(NamedTuple):
    """What an operation cannot avoid: each array that it needs is read once, each that it fills is written once.

    operations: those of the formula in `kernels.reference`; each +, -, *, /, maximum, absolute value, sign or choice is
    one, and so is a call of exp, log1p, tanh or sqrt, though that is many in truth. None: of integers, not counted.
    """

    reads: str
    writes: str
    operations: object


def costs(s):
    """{operation: Cost} at such sizes. An array that is changed in place is both read and written."""
    B, D, H, Z, L = s
    layer, hidden, latent, pixels, n = B * D * H, B * H, L * B * Z, L * B * D, D * H
    return {
        "affine": Cost("x W b", "y", 2 * layer + hidden),
        "affine_backward": Cost("dy W", "dx", 2 * layer),
        "affine_backward_add": Cost("dy W dx", "dx", 2 * layer + B * D),
        "affine_gradients": Cost("x dy W", "dW db", 2 * layer + 2 * n + hidden),
        "constant": Cost("b", "y", 0),
        "constant_gradients": Cost("dy", "db", hidden),
        "affine_relu": Cost("x W b", "h", 2 * layer + 2 * hidden),
        "relu_backward": Cost("dh h", "dh", hidden),
        "affine_tanh": Cost("x W b", "h", 2 * layer + 2 * hidden),
        "tanh_backward": Cost("dh h", "dh", 4 * hidden),
        "affine_softplus": Cost("x W b", "h", 2 * layer + 7 * hidden),
        "softplus_backward": Cost("dh h", "dh", 4 * hidden),
        "reparameterize": Cost("mu logvar eps", "z", 2 * B * Z + 2 * latent),
        "reparameterize_backward_add": Cost("dz logvar eps dmu dlogvar", "dmu dlogvar", 3 * latent + 6 * B * Z),
        "gaussian_kl": Cost("mu logvar", "kl", 5 * B * Z + B),
        "gaussian_kl_backward": Cost("dkl mu logvar", "dmu dlogvar", 4 * B * Z),
        "sampled_kl": Cost("logvar eps z", "kl", 5 * latent + L * B),
        "sampled_kl_backward": Cost("dkl z dz", "dz dmu dlogvar", 2 * latent + L * B + 2 * B),
        "bernoulli_nll": Cost("logits x", "nll", 12 * pixels + B * D),
        "bernoulli_nll_backward": Cost("dnll logits x", "dlogits", 17 * pixels + B * D),
        "gaussian_nll": Cost("mean noise x", "nll", 8 * pixels + L * B),
        "gaussian_nll_backward": Cost("dnll mean noise x", "dmean dnoise", 10 * pixels + L * B),
        "bernoulli_mean": Cost("logits", "mean", 6 * pixels),
        "gaussian_mean": Cost("output", "mean", 0),
        "elbo": Cost("nll kl", "loss", L * B + 5 * B),
        "elbo_backward": Cost("", "dnll dkl", 0),
        "iwae": Cost("nll kl", "loss", 7 * L * B + 4 * B),
        "iwae_backward": Cost("nll kl", "dnll dkl", 9 * L * B + B),
        "sgd": Cost("p g velocity", "p velocity", 4 * n),
        "adagrad": Cost("p g squares", "p squares", 7 * n),
        "adam": Cost("p g m v", "p m v", 14 * n),
        "gather": Cost("data rows", "x", B * D),
        "normals": Cost("examples", "eps", None),
        "binarize": Cost("pixels examples", "x", None),
    }


def moved(name, cost, arguments):
    """Bytes that the operation must read and write of these arguments, and of how many different ones."""
    named = dict(zip(OPERATIONS[name], arguments))
    if name == "gather":
        named["data"] = named["data"][: len(named["rows"])]  # a row of it for each row of the batch
    reads, writes = (sum(named[array].nbytes for array in names.split()) for names in (cost.reads, cost.writes))
    touched = sum(named[array].nbytes for array in set(f"{cost.reads} {cost.writes}".split()))
    return reads + writes, touched


class OperationSession:
    """What the process of a kernel set is asked to do."""

    def __init__(self, backend, sizes=EXAMPLE):
        self.kernel_set, self.sizes = kernels.load(backend), sizes

    def check(self, name):
        """What is wrong with it, or nothing."""
        try:
            check_operation(self.kernel_set, name, "float32", self.sizes, cancelling=True)
        except Exception as error:  # whatever it raises is a finding
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""

    def choose(self, name):
        """The operation that `block` times next."""
        self.function = getattr(self.kernel_set, name)
        self.arguments, self.initial = (random_arguments(name, "float32", self.sizes) for _ in range(2))
        result = self.function(*self.arguments)
        results = result if isinstance(result, tuple) else (result,)
        self.changed = [
            i for i, argument in enumerate(self.arguments) if any(np.shares_memory(argument, array) for array in results)
        ]
        self.n = measure.calibrate(self._seconds)

    def block(self):
        """Seconds a call."""
        return self._seconds(self.n) / (self.n * CALLS)

    def _seconds(self, n):
        total = 0.0
        for _ in range(n):
            for i in self.changed:
                self.arguments[i][...] = self.initial[i]
            started = time.perf_counter()
            for _ in range(CALLS):
                self.function(*self.arguments)
            total += time.perf_counter() - started
        return total

    def copy_bandwidth(self, n_bytes):
        return machine.copy_bandwidth(n_bytes)

    def multiply_add_peak(self):
        return machine.multiply_add_peak()


def compare_operations(rounds, backends, say=lambda words: None, sizes=EXAMPLE, names=None):
    """Every operation on every backend, checked, then timed in turn on one core: a dict for JSON."""
    cores, children, rows, missing = measure.choose_cores(1), {}, [], {}
    with contextlib.ExitStack() as stack:
        for backend in backends:
            status = kernels.available()[backend]
            if not status.ok or backend == "cupy":
                missing[backend] = status.reason or "on a GPU only whole steps are timed, by `step`"
                continue
            children[backend] = measure.Child(cores, OperationSession, backend, sizes)
            stack.callback(children[backend].close)
        if not children:
            reasons = "; ".join(f"{backend}: {reason}" for backend, reason in missing.items())
            raise ValueError(f"no backend is left to be timed ({reasons})")
        judge = next(iter(children.values()))
        peaks = judge.ask("multiply_add_peak")
        how = max(peaks, key=peaks.get)
        copies = {}
        for name, cost in costs(sizes).items():
            if names is not None and name not in names:
                continue
            say(name)
            n_bytes, touched = moved(name, cost, random_arguments(name, "float32", sizes))
            size = max(2**16, 2 ** math.ceil(math.log2(touched)))
            if size not in copies:
                copies[size] = judge.ask("copy_bandwidth", size)
            wrong = {backend: child.ask("check", name) for backend, child in children.items()}
            right = {backend: child for backend, child in children.items() if not wrong[backend]}
            for child in right.values():
                child.ask("choose", name)
            asks = {backend: (lambda child=child: child.ask("block")) for backend, child in right.items()}
            seconds, failed = measure.interleave(asks, rounds)
            for backend in children:
                row = {
                    "name": name,
                    "backend": backend,
                    "bytes": n_bytes,
                    "operations": cost.operations,
                    "status": "ok",
                    "reason": "",
                }
                if wrong[backend]:
                    row |= {"status": "wrong", "reason": wrong[backend]}
                elif backend in failed:
                    row |= {"status": "failed", "reason": failed[backend]}
                else:
                    row |= measure.summary(seconds[backend])
                    row["share_of_copy"] = n_bytes / row["median"] / copies[size]
                    row["share_of_peak"] = None if cost.operations is None else cost.operations / row["median"] / peaks[how]
                rows.append(row)
    return {
        "sizes": sizes._asdict(),
        "threads": 1,
        "cores": cores,
        "rounds": rounds,
        "peak": {"how": how, "flops": peaks[how], "all": peaks},
        "copy": {
            "how": "np.copyto within as many bytes as the operation touches (the next power of two, from 64 KiB)",
            "bytes_per_second": dict(sorted(copies.items())),
        },
        "missing": missing,
        "rows": rows,
    }
