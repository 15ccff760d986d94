"""Fewer launches for the same step: some are left out, and others take the place of several.

A launch may take the place of several where nothing that waits for one of them comes before another of them.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cupy  # pyright: ignore[reportMissingImports]  # it is installed only where there is a GPU
import numpy as np

from vae_np.kernels.contract import Array
from vae_np.kernels.gpu import layers
from vae_np.kernels.gpu.arrays import pointer_to
from vae_np.kernels.gpu.device import ABSENT, launch, product
from vae_np.kernels.gpu.launches import Launch, overlap, recorded, waits

READ_BY_ALL_BLOCKS = 2**24  # bytes: where all blocks together would read more of the weights, cuBLAS is faster

Launches = list[Launch]


def fewer(launches: Launches, cells: Sequence[Array], values: Sequence[Array], all_are_read: bool = False) -> Launches:
    """Return launches that do the same as those of a step, which is made again and again.

    Parameters
    ----------
    launches
        The launches of a step. The first one is `feed`.
    cells, values
        The arrays that `feed` fills, and those of their values for all steps.
    all_are_read
        Whether others than these launches read all arrays that they fill, so that each is needed.
    """
    launches = launches if all_are_read else _needed(launches)
    launches = _begin(launches, cells, values)
    launches = _latents(launches)
    launches = _latents_backward(launches)
    launches = _bernoulli_output(launches)
    launches = _sums_of_two(launches)
    return _column_sums(launches)


def _needed(launches):
    """`note`, and each launch whose results one of these uses, in this step or in a later one."""
    needed, before = [one for one in launches if one.name == "note"], None
    while needed != before:
        before = needed
        used = [memory for one in needed for memory in one.reads + one.writes]
        needed = [one for one in launches if one in needed or overlap(one.writes, used)]
    return needed


def _same(a: Any, b: Any) -> bool:
    """Whether both are arrays, and of the same memory."""
    return (
        isinstance(a, cupy.ndarray) and isinstance(b, cupy.ndarray) and (pointer_to(a), a.nbytes) == (pointer_to(b), b.nbytes)
    )


def _named(launches, name):
    return [found for found in launches if found.name == name]


def _find(launches, name, arguments):
    """The first launch of this name that has these arrays as its arguments of these numbers, or None."""
    for found in _named(launches, name):
        if all(_same(found.arguments[place], array) for place, array in arguments.items()):
            return found
    return None


def _in_place(launches: Launches, parts: Sequence[Launch], make: Callable[[], object]) -> Launches | None:
    """The launches with that of `make` in the place of the parts, or None where they may not be one."""
    numbers, before = {launches.index(part) for part in parts}, waits(launches)
    all_before: list[set[int]] = []
    for needed in before:
        all_before.append(needed.union(*(all_before[j] for j in needed)))
    others = [i for i in range(len(launches)) if i not in numbers]
    later = {i for i in others if all_before[i] & numbers}
    if any(later & all_before[part] for part in numbers):
        return None
    return [launches[i] for i in others if i not in later] + recorded(make) + [launches[i] for i in others if i in later]


def _begin(launches, cells, values):
    """`feed`, `gather` and `normals` become one."""
    feed, gather = launches[0], next((found for found in launches if found.name.startswith("gather_")), None)
    normals = gather and _find(launches, "normals", {2: gather.arguments[1]})
    if gather is None or normals is None:
        return launches
    (data, rows, x, B, D), (key, step, _, eps, L, _, Z) = gather.arguments, normals.arguments
    at = [i for wanted in (rows, step) for i, cell in enumerate(cells) if _same(cell, wanted)]
    if len(at) != 2:
        return launches
    feeds, n, counters = feed.arguments
    numbers = feeds, n, counters, *at, data, x, B, D, key, eps, L, Z
    name = gather.name.replace("gather", "begin")
    make = functools.partial(launch, "batches", name, x.dtype, x.size, *numbers, reads=values, writes=cells)
    return _in_place(launches, (feed, gather, normals), make) or launches


def _latents(launches):
    """The biases of mu and logvar, the samples, the KL in closed form, and a small first layer of the decoder become one."""
    for samples in _named(launches, "reparameterize"):
        mu, logvar, eps, z, L, _ = samples.arguments
        biases = [bias for head in (mu, logvar) if (bias := _find(launches, "add_bias", {1: head}))]
        if len(biases) < 2:
            continue
        b_mu, b_logvar = (bias.arguments[0] for bias in biases)
        kl = _find(launches, "gaussian_kl", {0: mu, 1: logvar})
        parts = [*biases, samples, *[kl] * bool(kl)]
        numbers = b_mu, mu, b_logvar, logvar, eps, z, kl.arguments[2] if kl else ABSENT, L, *mu.shape
        choices = [("latents", parts, numbers)]
        if layer := _small_layer(launches, z):
            name, of_layer, (W, bias, h) = layer
            choices.insert(0, (f"latents_{name}", parts + of_layer, (*numbers, W, bias, h, W.shape[1])))
        for name, of_one, arguments in choices:
            make = functools.partial(launch, "fused", name, z.dtype, len(mu), *arguments, per_block=1)
            if fused := _in_place(launches, of_one, make):
                launches = fused
                break
    return launches


def _small_layer(launches, z):
    """The activation, the launches and (W, bias, h) of a layer of z, if each block can read its W at little cost; else None."""
    for multiplication in _named(launches, "product"):
        a, W, h, a_as, b_as, add = multiplication.arguments
        if _same(a, z) and not (a_as or b_as or add) and len(a) * W.nbytes <= READ_BY_ALL_BLOCKS:
            for name in ("relu", "tanh", "softplus"):
                if bias := _find(launches, f"bias_{name}", {1: h}):
                    return name, [multiplication, bias], (W, bias.arguments[0], h)
    return None


def _latents_backward(launches):
    """The derivatives by mu and logvar from the KL in closed form and through the samples become one."""
    for samples in _named(launches, "reparameterize_backward_add"):
        dz, logvar, eps, dmu, dlogvar, L, _ = samples.arguments
        if kl := _find(launches, "gaussian_kl_backward", {2: logvar, 3: dmu, 4: dlogvar}):
            dkl, mu = kl.arguments[:2]
            numbers = dkl, mu, logvar, dz, eps, dmu, dlogvar, L, *mu.shape
            make = functools.partial(launch, "fused", "latents_backward", dmu.dtype, dmu.size, *numbers)
            launches = _in_place(launches, (kl, samples), make) or launches
    return launches


def _bernoulli_output(launches):
    """The bias of the logits, the nll and, if it does not wait for the nll, the derivative by the logits become one."""
    for of_nll in _named(launches, "bernoulli_nll"):
        logits, x, nll, *sizes = of_nll.arguments
        if not (bias := _find(launches, "add_bias", {1: logits})):
            continue
        numbers, fused = (bias.arguments[0], logits, x, nll), None
        make = functools.partial(launch, "fused", "bernoulli_output", nll.dtype, nll.size, per_block=1)
        if backward := _find(launches, "bernoulli_nll_backward", {1: logits, 2: x}):
            dnll, dlogits = backward.arguments[0], backward.arguments[3]
            fused = _in_place(launches, (bias, of_nll, backward), lambda: make(*numbers, dnll, dlogits, *sizes))
        launches = fused or _in_place(launches, (bias, of_nll), lambda: make(*numbers, ABSENT, ABSENT, *sizes)) or launches
    return launches


def _sums_of_two(launches):
    """Two products whose sum an activation's derivative takes are computed beside each other, and added there."""
    launches = list(launches)
    for i, one in enumerate(launches):
        if not one.name.endswith("_backward") or isinstance(one.arguments[1], cupy.ndarray):
            continue
        dh, _, *rest = one.arguments
        terms = [j for j in range(i) if overlap(launches[j].writes, one.writes)][-2:]
        if [launches[j].name for j in terms] != ["product"] * 2 or not launches[terms[1]].arguments[-1]:
            continue
        other = cupy.empty(dh.shape, dh.dtype)
        a, b, c, a_as, b_as, _ = launches[terms[1]].arguments
        [launches[terms[1]]] = recorded(lambda: product(a, b, other.reshape(c.shape), a_as, b_as))
        [launches[i]] = recorded(lambda: launch("layers", one.name, dh.dtype, dh.size, dh, other, *rest))
    return launches


def _column_sums(launches):
    """All sums of columns become one."""
    sums = _named(launches, "column_sums")
    if len(sums) < 2:
        return launches
    dy, db, heights, widths = zip(*(one.arguments for one in sums))
    *before, parts = itertools.accumulate((-(-width // 32) for width in widths), initial=0)
    rows = zip(map(pointer_to, dy), map(pointer_to, db), heights, widths, before)
    table = cupy.asarray(np.array(list(rows), np.int64))
    numbers = table, len(sums), parts
    sizes = {"block": layers.SUMMING, "per_block": 1}
    make = functools.partial(launch, "layers", "all_column_sums", db[0].dtype, parts, *numbers, **sizes, reads=dy, writes=db)
    return _in_place(launches, sums, make) or launches
