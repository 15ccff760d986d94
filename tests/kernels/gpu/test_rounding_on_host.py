"""The precisions of the GPU's kernel set on the host: which bits remain, and whose memory holds them."""

import functools
import itertools

import numpy as np
import pytest

from tests import host_cuda
from tests.kernels.gpu import on_host
from tests.kernels.gpu.trainings import BATCH_SIZE, DATA, TRAININGS, Training, stepped
from vae_np import SGD, Architecture, Parameters, kernels, loss_and_gradients, steps
from vae_np.kernels import reference
from vae_np.kernels.contract import LAYERS
from vae_np.testing.comparison import assert_near
from vae_np.testing.operations import SIZES, check_operation, on_numpy

if not on_host.KERNELS:
    pytest.skip("g++ is not installed: kernels cannot be compiled for the host", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("every_graph_is_captured")
GPU, DEVICE, GRAPH, ROUNDING = on_host.KERNELS, on_host.DEVICE, on_host.GRAPH, on_host.KERNELS.rounding
PRECISIONS = ("bfloat16", "tfloat32")


# ------------------------------------------------------------------------------------------------- what is rounded, and how


def rounded_in_pairs(kernel, left, right, dtype, *more):
    """What a kernel makes of two arrays of NumPy, in any order of threads and blocks."""
    given = [GPU.put(array) for array in (left, right)]
    results = []
    for order, block in zip(host_cuda.ORDERS, (1, 33, 256)):
        filled = [host_cuda.empty(array.shape, dtype) for array in given]
        with host_cuda.order(order), on_host.blocks(block):
            pairs = [argument for a, of_a in zip(given, filled) for argument in (a, of_a, a.size)]
            DEVICE.launch("layers", kernel, left.dtype, left.size + right.size, *pairs, *more)
        results.append(np.concatenate([GPU.get(array) for array in filled]))
    assert len({result.tobytes() for result in results}) == 1
    return results[0]


def of_every_exponent(real, bits):
    """Numbers of both signs and every exponent. Their digits are on either side of a tie and on it, above even and odd ones.

    There are NaN and infinities among them, numbers that change their exponent, and such as become infinite.
    """
    info, word = np.finfo(real), np.dtype(f"u{np.dtype(real).itemsize}")
    unit = 1 << (info.nmant + 1 - bits)  # of the last digit that is kept
    upper, lower = (0, 1, 2, 2 ** (bits - 1) - 1), (0, 1, unit // 2 - 1, unit // 2, unit // 2 + 1, unit - 1)
    parts = itertools.product((0, 1), range(2**info.nexp), upper, lower)
    words = [(sign << info.nexp | exponent) << info.nmant | u * unit + w for sign, exponent, u, w in parts]
    return np.array(words, word).view(real)


@pytest.mark.parametrize(
    "kernel, real, dtype, bits",
    [
        ("to_bfloat16", np.float32, np.uint16, 8),
        ("to_tf32", np.float32, np.uint32, 11),
        ("to_bits", np.float64, np.float64, 8),
        ("to_bits", np.float64, np.float64, 11),
    ],
)
def test_every_number_is_rounded_to_the_bit_as_the_reference_does(kernel, real, dtype, bits):
    x = of_every_exponent(real, bits)
    found = rounded_in_pairs(kernel, x[:5], x[5:], dtype, *[bits] * (real == np.float64))
    if dtype == np.uint16:
        found = found.astype(np.uint32) << 16
    found = found.view(real)
    with np.errstate(all="ignore"):
        wanted = reference.rounded(x, bits)
        if real == np.float32:  # the digits of small numbers do not become finer
            finest = 2.0 ** (24 - bits - 149)
            wanted = np.where(np.abs(x) < np.finfo(real).tiny, np.rint(x / finest) * finest, wanted).astype(real)
    nan, word = np.isnan(x), f"u{x.itemsize}"
    assert nan.any() and (np.isnan(found) == nan).all()
    assert (found.view(word) == wanted.view(word))[~nan].all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", sorted(name for name in LAYERS if name.startswith("affine")))
def test_a_layer_rounds_the_operands_of_its_product_and_nothing_else(name, precision):
    operations = on_numpy(kernels.load(GPU, precision))
    for (order, block), real in itertools.product(zip(host_cuda.ORDERS, (33, 256, 128)), ("float32", "float64")):
        with host_cuda.order(order), on_host.blocks(block, most=3):
            check_operation(operations, name, real, SIZES[0], precision=precision)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("bits + half - 1 + odd", "bits + half"),  # ties go up
        ("if (x != x) return bits | 0x400000;", ""),  # some NaN become infinite
        ("rint(ldexp(part, (int)bits))", "trunc(ldexp(part, (int)bits))"),
        ("i < n)\n", "i <= n)\n"),
    ],
)
def test_a_planted_error_of_the_rounding_is_seen(right, wrong, planted):
    planted(right, wrong)
    with pytest.raises((AssertionError, host_cuda.KernelFault)):
        test_every_number_is_rounded_to_the_bit_as_the_reference_does("to_tf32", np.float32, np.uint32, 11)
        test_every_number_is_rounded_to_the_bit_as_the_reference_does("to_bits", np.float64, np.float64, 8)


def test_the_set_says_what_its_products_are_of():
    said = [kernels.load(GPU, precision).about() for precision in PRECISIONS]
    assert said == [f"matrix products of cuBLAS on host, of operands rounded to {name}" for name in ("bfloat16", "TF32")]


# ------------------------------------------------------------------------------------------------------------ whole steps


@pytest.mark.parametrize("real", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_steps_are_the_references_and_their_bits_depend_on_no_order(training, precision, real):
    (_, p), (_, q) = (stepped(backend, training, real, 4, precision) for backend in (GPU, "numpy"))
    assert_near(p, q, "p", "rounded")
    with host_cuda.order("shuffled"), on_host.blocks(256, most=7):
        assert (stepped(GPU, training, real, 4, precision)[1] == p).all()
    assert (stepped(GPU, training, real, 4)[1] != p).any()


def test_work_that_is_done_as_late_as_cuda_may_changes_no_bit():
    wanted = stepped(GPU, TRAININGS[1], "float32", 4, "bfloat16")
    DEVICE.cublas.cache_clear()
    with host_cuda.late():
        found = stepped(GPU, TRAININGS[1], "float32", 4, "bfloat16")
    assert all((a == b).all() for a, b in zip(found, wanted))


def test_graphs_share_the_room_for_operands_and_keep_it():
    def stepper(hidden):
        training = Training(Architecture(30, (hidden,), 4), SGD(0.01))
        model, p, state = training.model_and_state(GPU, "float32")
        options = {"backend": GPU, "precision": "bfloat16"}
        run = steps.stepper(p, state, training.optimizer, DATA, BATCH_SIZE, **options)
        rows = np.random.default_rng(1).integers(0, len(DATA), (2, BATCH_SIZE))
        return lambda first: (run(rows, first, 1.0, 0.01), model.get(p.flat))

    alone = stepper(5)
    wanted = [alone(1), alone(3)]
    ROUNDING._room.cache_clear()
    small, large = stepper(5), stepper(60)
    found = [small(1)]
    rooms = [ROUNDING._room.cache_info().currsize]
    for another in (stepper(5), stepper(6), large):
        another(1)
        rooms.append(ROUNDING._room.cache_info().currsize)
    assert rooms[0] == rooms[1] == rooms[2] < rooms[3]  # sizes are powers of 2
    found.append(small(3))
    for given, alone in zip(found, wanted):
        assert all((a == b).all() for a, b in zip(given, alone))


def test_products_of_two_threads_do_not_use_the_same_room_at_the_same_time(monkeypatch):
    turns = host_cuda.Turns()
    for module in (GRAPH, DEVICE, ROUNDING):
        monkeypatch.setattr(module, "_lock", host_cuda.Lock(turns))

    def gradient(seed):
        eps, p = np.random.default_rng(seed).normal(size=(1, 5, 4)), Parameters.initialize(TRAININGS[0].architecture, seed=seed)
        return loss_and_gradients(p, DATA[seed:][:5], eps, backend=GPU, precision="bfloat16")[1].flat

    gradients = [functools.partial(gradient, seed) for seed in (0, 7)]
    wanted = [gradient() for gradient in gradients]
    for found, alone in zip(turns.results(*gradients), wanted):
        assert (found == alone).all()
