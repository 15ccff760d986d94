"""The GPU's kernel set on the host: each kernel in any order of threads, whole trainings, and planted errors."""

import contextlib
import ctypes
import functools
import importlib
import itertools
import pathlib
import re
import sys
import warnings

import numpy as np
import pytest

from tests import host_cuda
from tests.kernels.gpu import on_host
from tests.kernels.gpu.trainings import BATCH_SIZE, DATA, EVERY_CHOICE, TRAININGS, stepped
from vae_np import Architecture, Parameters, cli, decode, encode, kernels, log_likelihood, loss_and_gradients, steps, train
from vae_np.evaluation import evaluate
from vae_np.kernels import reference
from vae_np.kernels.contract import UPDATES
from vae_np.runs import TERMS
from vae_np.testing import TOLERANCES
from vae_np.testing.operations import OPERATIONS, SIZES, check_operation, on_numpy, random_arguments

if not on_host.KERNELS:
    pytest.skip("g++ is not installed: kernels cannot be compiled for the host", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("every_graph_is_captured")
GPU, DEVICE, GRAPH = on_host.KERNELS, on_host.DEVICE, on_host.GRAPH
BLOCKS = [1, 32, 33, 128, 256]


@contextlib.contextmanager
def surroundings(order, block, edge="end", most=3, summing=None):
    """Within it kernels run in this order, in blocks of this size, and with forbidden memory at this edge of each array."""
    with host_cuda.order(order), host_cuda.placement(edge), on_host.blocks(block, most, summing):
        yield


@pytest.fixture(scope="module")
def operations():
    """The operations of the set between its `put` and `get`, so that they take arrays of NumPy."""
    return on_numpy(GPU)


# ------------------------------------------------------------------------------------------------------- one operation


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_in_any_order_and_any_block(operations, name, block):
    noises = (False, True) if "output_logvar" in OPERATIONS[name] else (False,)
    around = itertools.product(host_cuda.ORDERS, ("end", "start"), ("float32", "float64"), noises)
    for order, edge, real, shared_noise in around:
        with surroundings(order, block, edge):
            check_operation(operations, name, real, SIZES[0], shared_noise)


@pytest.mark.parametrize("block", [32, 64, 1024])
@pytest.mark.parametrize("order", host_cuda.ORDERS)
def test_columns_are_summed_by_any_number_of_warps(operations, order, block):
    with surroundings(order, 256, summing=block):
        for sizes in (SIZES[0], (70, 3, 100, 9, 1)):
            for real in ("float32", "float64"):
                check_operation(operations, "constant_gradients", real, sizes)


@pytest.mark.parametrize("data", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_gather_takes_every_dtype_of_data(operations, data, real):
    values = (np.random.default_rng(0).uniform(size=(9, 7)) * (255 if data == np.uint8 else 1)).astype(data)
    x = operations.gather(values, np.array([8, 0, 3]), np.full((3, 7), np.nan, real))
    assert (x == values[[8, 0, 3]].astype(real) / real(255 if data == np.uint8 else 1)).all()


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_no_digit_is_lost_where_an_activation_is_flat(operations, real):
    size = 10.0 ** np.arange(-7, 1.9, 0.25)
    y = np.concatenate([-size, [0], size, [100, 1e4]])[:, None].astype(real)
    layer = y, np.ones((1, 1), real), np.zeros(1, real)
    close = functools.partial(np.testing.assert_allclose, rtol=8 * np.finfo(real).eps)
    tanh, softplus = (getattr(operations, f"affine_{name}")(*layer, y[:0], np.empty_like(y)) for name in ("tanh", "softplus"))
    close(tanh, np.tanh(y.astype(float)))
    close(softplus, np.logaddexp(0, y.astype(float)))
    h = tanh.astype(float)
    close(operations.tanh_backward(np.ones_like(y), y[:0], tanh), (1 - h) * (1 + h))
    close(operations.softplus_backward(np.ones_like(y), y[:0], softplus), -np.expm1(-softplus.astype(float)))


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_no_digit_is_lost_where_the_posterior_is_all_but_the_prior(operations, real):
    logvar = np.concatenate([-(10.0 ** np.arange(-20, 1)), 10.0 ** np.arange(-20, 1)])[:, None].astype(real)
    mu, dmu, dlogvar, unused = (np.zeros_like(logvar) for _ in range(4))
    operations.gaussian_kl_backward(np.ones((1, len(logvar)), real), mu, logvar, unused, unused, unused, dmu, dlogvar)
    np.testing.assert_allclose(dlogvar, np.expm1(logvar.astype(float)) / 2, rtol=8 * np.finfo(real).eps)


def test_operations_take_arrays_of_any_order(operations):
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(9, 7)), rng.normal(size=(7, 5)), rng.normal(size=5)
    for given in ((x, W), (np.asfortranarray(x), np.asfortranarray(W)), (np.repeat(x, 2, axis=1)[:, ::2], W[::-1][::-1])):
        np.testing.assert_allclose(operations.affine(*given, b, np.empty((9, 5))), x @ W + b, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(UPDATES))
def test_the_numbers_of_an_update_may_be_integers(operations, name):
    """A kernel takes them as double, and reads the bits of any other type as if they were one."""
    given, wanted = (
        [0 if isinstance(a, float) and parameter != "learning_rate" else a for parameter, a in zip(OPERATIONS[name], arguments)]
        for arguments in (random_arguments(name, "float64") for _ in range(2))
    )
    np.testing.assert_allclose(getattr(operations, name)(*given), getattr(reference, name)(*wanted), rtol=1e-12)


def test_numbers_of_rows_of_another_dtype_are_refused(operations):
    few, x = np.zeros(2, np.int32), np.empty((1, 2, 4))
    for call in (
        lambda: operations.gather(np.zeros((3, 4)), few, x[0]),
        lambda: operations.normals(np.uint64(1), 0, few, x),
        lambda: operations.binarize(x[0], np.uint64(1), 0, few, x[0]),
    ):
        with pytest.raises(TypeError, match="the numbers of rows are int32"):
            call()


def test_what_is_on_the_device_stays_where_it_is():
    array = GPU.zeros((2, 3), np.float32)
    assert GPU.put(array) is array and GPU.get(host := np.ones(3)) is host and (GPU.get(GPU.put(host)) == host).all()


def test_nothing_is_done_on_no_elements(operations):
    nothing = np.empty((0, 3))
    assert operations.affine(nothing, np.ones((3, 2)), np.ones(2), np.empty((0, 2))).shape == (0, 2)
    assert operations.bernoulli_mean(nothing, nothing).shape == (0, 3)
    a, b = GPU.zeros((2, 3), np.float64), GPU.zeros((3, 0), np.float64)
    DEVICE.product(a, b, GPU.zeros((2, 0), np.float64))


@pytest.mark.parametrize(
    "version, platform, name",
    [
        (12090, "linux", "libcublas.so.12"),
        (13000, "linux", "libcublas.so.13"),
        (13020, "win32", "cublas64_13.dll"),
    ],
)
def test_the_cublas_is_that_of_cupys_cuda(version, platform, name, monkeypatch):
    monkeypatch.setattr(DEVICE.cupy.cuda.runtime, "runtimeGetVersion", lambda: version)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: name)
    assert on_host.load_cublas() == name


def test_what_cublas_refuses_is_an_error(operations, monkeypatch):
    for part in ("set_stream", "set_workspace", "set_math_mode", "gemm"):
        DEVICE.cublas.cache_clear()
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cuBLAS's .* failed with status 14"):
            patch.setattr(host_cuda.Cublas, part, lambda *_: 14)
            operations.affine(np.ones((2, 2)), np.ones((2, 2)), np.ones(2), np.empty((2, 2)))
    DEVICE.cublas.cache_clear()


# ----------------------------------------------------------------------------------------------------- planted errors

PLANTED = {  # the correct text, the wrong text, and an operation whose result is then wrong
    "a missing barrier in a sum": (
        "if (lane == 0) of_warp[warp] = value;\n    __syncthreads();",
        "if (lane == 0) of_warp[warp] = value;",
        "gaussian_kl",
    ),
    "a missing barrier between two sums": (
        "    __syncthreads();  // what an earlier call left has been read\n",
        "",
        "bernoulli_nll",
    ),
    "a missing barrier before the columns' sums": (
        "of_warp[warp][lane] = total;\n    __syncthreads();",
        "of_warp[warp][lane] = total;",
        "affine_gradients",
    ),
    "a missing barrier before Adam's rate is read": ("    }\n    __syncthreads();\n    REAL b1", "    }\n    REAL b1", "adam"),
    "a wrong index": ("pixel = x[r % B * D + d]", "pixel = x[r * D + d]", "bernoulli_nll"),
    "a wrong stride": (
        "output_logvar[r * per_row + (per_row > 1 ? d : 0)];\n            total",
        "output_logvar[r * per_row];\n            total",
        "gaussian_nll",
    ),
    "a wrong sign": ("(s - e) * (s + e) - logvar", "(s - e) * (s + e) + logvar", "sampled_kl"),
    "a lost update": ("dmu[i] += of_mu;", "dmu[i] = of_mu;", "reparameterize_backward_add"),
    "an update of too many": ("i < (n); i += gridDim", "i <= (n); i += gridDim", "affine_relu"),
    "an update of too few": ("j < (n); j += blockDim", "j < (n) - 1; j += blockDim", "bernoulli_nll"),
    "a lane too many": ("if (lane + apart < lanes) value += other;", "value += other;", "gaussian_kl"),
    "a power forgotten": ("1 - pow(beta2, (double)*step)", "1 - beta2", "adam"),
    "a round of noise forgotten": ("round < 10", "round < 9", "normals"),
    "a column too many": ("k < 4 && 4 * block + k < Z", "k < 4", "normals"),
    "a rounding that others do not have": (
        "(REAL)data[rows[i / D] * D + i % D] / divisor",
        "(REAL)data[rows[i / D] * D + i % D] * (1 / divisor)",
        "gather",
    ),
}


@pytest.mark.parametrize("error", [pytest.param(e, marks=[pytest.mark.slow] * (i % 4 > 0)) for i, e in enumerate(PLANTED)])
def test_a_planted_error_is_seen(operations, error, planted):
    right, wrong, name = PLANTED[error]
    planted(right, wrong)
    noises = (False, True) if "output_logvar" in OPERATIONS[name] else (False,)
    with pytest.raises((AssertionError, host_cuda.KernelFault)):
        for order, block, sizes, shared in itertools.product(host_cuda.ORDERS, (256, 33), SIZES[:1] + SIZES[3:], noises):
            with surroundings(order, block):
                check_operation(operations, name, "float32", sizes, shared)


# ---------------------------------------------------------------------------------------------------- the whole model


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_the_loss_and_its_gradient_are_the_references(training):
    """They are computed line by line, on arrays of the device."""
    architecture, _, objective, n_samples, _ = training
    eps = np.random.default_rng(3).normal(size=(n_samples, 5, 4))
    given = Parameters.initialize(architecture), DATA[:5], eps, 0.7, 0.1, objective
    (value, g), (wanted, h) = (loss_and_gradients(*given, backend) for backend in (GPU, "numpy"))
    tolerance = TOLERANCES["model"]["float64"]
    np.testing.assert_allclose(value.per_example, wanted.per_example, rtol=tolerance)
    np.testing.assert_allclose(g.flat, h.flat, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "training, real",
    [
        pytest.param(training, real, id=f"{training}-{real}", marks=[pytest.mark.slow] * (i % 2 == (real == "float32")))
        for i, training in enumerate(EVERY_CHOICE)
        for real in ("float32", "float64")
    ],
)
def test_twenty_steps_are_the_references(training, real):
    (terms, p), (wanted, q) = (stepped(backend, training, real) for backend in (GPU, "numpy"))
    tolerance = 20 * TOLERANCES["model"][real]
    np.testing.assert_allclose(terms, wanted, rtol=tolerance)
    np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_neither_the_order_nor_the_number_of_blocks_changes_a_bit(training):
    first = stepped(GPU, training, "float32", n=3)
    for order, most in zip(host_cuda.ORDERS, (1, 7, 4096)):
        with surroundings(order, 256, most=most):
            assert all((a == b).all() for a, b in zip(stepped(GPU, training, "float32", n=3), first))


def test_without_a_graph_the_steps_are_the_same_to_the_bit(monkeypatch, caplog):
    captured = stepped(GPU, TRAININGS[0], "float32")

    def refuse(*_):
        raise error

    monkeypatch.setattr(host_cuda.Stream, "begin_capture", refuse)
    for error in (host_cuda.CUDARuntimeError(GRAPH.NOT_SUPPORTED), RuntimeError("cuBLAS's gemm failed with status 14")):
        one_by_one = stepped(GPU, TRAININGS[0], "float32")
        assert "steps are launched one by one" in caplog.text
        assert ("Traceback" in caplog.text) == (type(error) is RuntimeError)  # only what nobody expects has one
        caplog.clear()
        assert all((a == b).all() for a, b in zip(captured, one_by_one))


# ------------------------------------------------------------------------------------------------- streams and graphs


def calls(run, lengths):
    """Call `run` with these numbers of steps, and return all terms. Each step has its own beta and its own learning rate."""
    n, rng = sum(lengths), np.random.default_rng(1)
    rows, betas, rates = rng.integers(0, len(DATA), (n, BATCH_SIZE)), np.linspace(0.1, 1, n), np.linspace(0.02, 0.01, n)
    bounds = itertools.pairwise(itertools.accumulate(lengths, initial=0))
    return np.concatenate([run(rows[i:j], 1 + i, betas[i:j], rates[i:j]) for i, j in bounds])


def stepper(training=TRAININGS[0], seed=0):
    """A training on the GPU: the function that makes its steps, and one that returns its parameters."""
    model, p, state = training.model_and_state(GPU, "float32", seed)
    _, optimizer, objective, n_samples, _ = training
    options = dict(l2=0.1, binarize=True, seed=seed, backend=GPU)
    run = steps.stepper(p, state, optimizer, DATA, BATCH_SIZE, objective, n_samples, **options)
    return run, lambda: model.get(p.flat)


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_calls_of_more_steps_than_are_on_the_device_at_a_time(training, monkeypatch):
    monkeypatch.setattr(GRAPH, "STEPS_AT_A_TIME", 4)
    one_by_one, p = stepper(training)
    wanted = calls(one_by_one, [1] * 10)
    for lengths in ([4, 6], [3, 4, 3], [9, 1]):
        run, q = stepper(training)
        assert (calls(run, lengths) == wanted).all() and (q() == p()).all()


def trained_late(seed, training=TRAININGS[0], stream=None):
    """The terms and the parameters of some steps, whose work is done in the order of `host_cuda.late`."""
    DEVICE.cublas.cache_clear()
    with host_cuda.late(seed), stream or contextlib.nullcontext():
        run, p = stepper(training)
        return calls(run, [3, 6]), p()


@pytest.fixture
def few_at_a_time(monkeypatch):
    monkeypatch.setattr(GRAPH, "STEPS_AT_A_TIME", 4)


@pytest.mark.parametrize(
    "training, seed",
    [
        pytest.param(
            training, seed, id=f"{seed}-{training}", marks=[] if (i % 2 == 0) == (seed is None) else [pytest.mark.slow]
        )
        for seed in (None, 0)
        for i, training in enumerate(TRAININGS)
    ],
)
def test_no_order_of_work_that_cuda_allows_changes_a_bit(training, seed, few_at_a_time):
    """Every array is read on a stream that has waited for the work that fills it."""
    run, p = stepper(training)
    wanted = calls(run, [3, 6]), p()
    for stream in (None, host_cuda.Stream(non_blocking=True) if seed is None else host_cuda.Stream(ptds=True)):
        assert all((a == b).all() for a, b in zip(trained_late(seed, training, stream), wanted))
    some = Parameters.initialize(training.architecture), DATA[:5], np.ones((1, 5, 4))
    with host_cuda.late(seed):
        late = loss_and_gradients(*some, backend=GPU)[1].flat
    np.testing.assert_allclose(late, loss_and_gradients(*some, backend="numpy")[1].flat, rtol=1e-10, atol=1e-12)


def _on(null):
    """A method of an array that takes the null stream instead of the one that it is given, or of the current one."""
    return lambda method: lambda array, *given: method(array, *[null if type(a) is host_cuda.Stream else a for a in given])


PLANTED_IN_STREAMS = {  # the class, its method, and what takes the place of the method
    "no stream waits for an event": (
        host_cuda.Stream,
        "wait_event",
        lambda method: lambda stream, event: event.graph and method(stream, event),
    ),
    "the graphs do not wait for what surrounds them": (
        host_cuda.Stream,
        "wait_event",
        lambda method: lambda stream, event: (event.graph or stream != GRAPH.stream_of_graphs()) and method(stream, event),
    ),
    "numbers are copied on the wrong stream": (host_cuda.ndarray, "set", _on(host_cuda.Stream.null)),
    "results are copied on the wrong stream": (host_cuda.ndarray, "get", _on(host_cuda.Stream.null)),
    "a graph is launched on the wrong stream": (
        host_cuda.Graph,
        "launch",
        lambda method: lambda graph: method(graph, host_cuda.Stream.null),
    ),
}


@pytest.mark.parametrize("error", PLANTED_IN_STREAMS)
def test_a_missing_event_and_a_wrong_stream_are_seen(error, few_at_a_time, monkeypatch):
    of, name, wrong = PLANTED_IN_STREAMS[error]
    wanted = trained_late(None)
    monkeypatch.setattr(of, name, wrong(getattr(of, name)))

    def is_seen(seed):
        try:
            return not all(np.array_equal(a, b) for a, b in zip(trained_late(seed), wanted))
        except (host_cuda.KernelFault, IndexError):  # a row number that is not there yet
            return True

    assert any(map(is_seen, (None, *range(4))))


@pytest.fixture
def make_turns(monkeypatch):
    """A function that makes two threads of the host take turns. A turn ends where its thread waits for a lock of the set."""

    def make():
        turns = host_cuda.Turns()
        for module in (GRAPH, DEVICE, GPU.rounding):
            monkeypatch.setattr(module, "_lock", host_cuda.Lock(turns))
        return turns

    return make


@pytest.fixture
def turns(make_turns):
    return make_turns()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_threads_with_default_streams_of_their_own_share_no_memory_of_products(precision, make_turns):
    """All these streams have the same address. Their work may be done in any order."""
    x, W, b = (np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in ((2, 9, 7), (7, 5), (5,)))
    operations, wanted = kernels.load(GPU, precision), []
    for seed in range(4):
        turns = make_turns()
        with host_cuda.late(seed):
            given = [[operations.put(array) for array in (rows, W, b, np.zeros((9, 5), np.float32))] for rows in x]
            host_cuda.Device().synchronize()

            def layers(arguments):
                with host_cuda.Stream(ptds=True):
                    for _ in range(3):
                        operations.affine(*arguments)

            turns.results(*(functools.partial(layers, arguments) for arguments in given))
            host_cuda.Device().synchronize()
            found = np.stack([operations.get(arguments[-1]) for arguments in given])
        wanted = found if not seed else wanted
        np.testing.assert_allclose(found, x @ W + b, rtol=0.1, atol=0.1)
        assert (found == wanted).all()


def test_graphs_of_two_threads_do_not_mix(turns):
    def trained(training, lengths, seed):
        run, p = stepper(training, seed)
        return calls(run, lengths), p()

    functions = [
        functools.partial(trained, TRAININGS[0], [2, 3], seed=0),
        functools.partial(trained, TRAININGS[1], [1, 1, 2], seed=7),
    ]
    wanted = [function() for function in functions]
    for found, alone in zip(turns.results(*functions), wanted):
        assert all((a == b).all() for a, b in zip(found, alone))


def test_a_graph_is_captured_beside_any_work_of_another_thread(turns):
    def trained():
        run, p = stepper()
        return calls(run, [3]), p()

    def likelihoods():  # with so many samples that this still goes on while the second step is captured
        return (log_likelihood(Parameters.initialize(TRAININGS[2].architecture), DATA[:1], 1000, backend=GPU),)

    wanted = trained(), likelihoods()
    for found, alone in zip(turns.results(trained, likelihoods), wanted):
        assert all((a == b).all() for a, b in zip(found, alone))


def test_products_of_two_threads_do_not_use_a_workspace_at_the_same_time(turns):
    def gradient(seed):
        eps, p = np.random.default_rng(seed).normal(size=(1, 5, 4)), Parameters.initialize(TRAININGS[0].architecture, seed=seed)
        return loss_and_gradients(p, DATA[seed:][:5], eps, backend=GPU)[1].flat

    gradients = [functools.partial(gradient, seed) for seed in (0, 7)]
    wanted = [gradient() for gradient in gradients]
    for found, alone in zip(turns.results(*gradients), wanted):
        assert (found == alone).all()


def test_the_host_waits_once_for_any_number_of_steps_and_launches_only_graphs(monkeypatch):
    """It captures none again."""
    launched, captured = [], []
    launch, begin_capture = host_cuda.Graph.launch, host_cuda.Stream.begin_capture
    monkeypatch.setattr(host_cuda.Graph, "launch", lambda *given: launched.append("a graph") or launch(*given))
    monkeypatch.setattr(host_cuda.Stream, "begin_capture", lambda stream: captured.append(stream) or begin_capture(stream))
    for n in (1, 50):
        run, _ = stepper()
        calls(run, [2, 8])
        captured_before = len(captured)
        with monkeypatch.context() as patch:
            patch.setattr(host_cuda.RawKernel, "__call__", lambda *_, **__: launched.append("a kernel"))
            launched.clear()
            before = host_cuda.synchronisations()
            calls(run, [n])
            assert host_cuda.synchronisations() - before == 1 and launched == ["a graph"] * sum(
                divmod(n, GRAPH.STEPS_IN_A_GRAPH)
            )
        assert len(captured) == captured_before
    assert set(captured) == {GRAPH.stream_of_graphs()}


def test_the_weights_of_single_precision_are_summed_in_double():
    run, _ = stepper()
    weights = Parameters.initialize(TRAININGS[0].architecture, dtype="float32")
    squares = sum((W.astype(float) ** 2).sum() for name, W in weights.items() if name.endswith(".W"))
    assert calls(run, [1])[0, 3] == pytest.approx(float(np.float32(0.1)) / 2 * squares, rel=1e-14)


def test_large_weights_are_summed_by_many_blocks_with_the_same_bits_for_any_number_of_them(monkeypatch):
    monkeypatch.setattr(GRAPH, "SUMMED_BY_A_BLOCK", 7)
    grids, launch = set(), host_cuda.RawKernel.__call__

    def launched(kernel, grid, block, args):
        if kernel.name == "note":
            grids.add(grid)
        launch(kernel, grid, block, args)

    monkeypatch.setattr(host_cuda.RawKernel, "__call__", launched)
    found = []
    for order, most in zip((*host_cuda.ORDERS, "shuffled"), (1, 2, 5, 4096)):
        with surroundings(order, 256, most=most):
            found.append(calls(stepper()[0], [2]))
    assert all((terms == found[0]).all() for terms in found)
    means, weights = -(-BATCH_SIZE // 7), (600, 80, 80, 80, 600)
    assert grids == {(1,), (2,), (5,), (3 * means + sum(-(-size // 7) for size in weights),)}
    p = Parameters.initialize(TRAININGS[0].architecture, dtype="float32")
    assert found[0][0, 3] == pytest.approx(np.float32(0.1) / 2 * sum((W.astype(float) ** 2).sum() for W in p.weights.values()))


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("if (!is_last) return;", "if (is_last) return;"),
        pytest.param("*arrived = 0;", "", marks=pytest.mark.slow),
        pytest.param("== gridDim.x - 1", "== gridDim.x - 2", marks=pytest.mark.slow),
        ("min((whole)length, arrays[4 * r + 1] - first)", "length"),
        ("while (arrays[4 * r + 3] > part) r--;", "while (arrays[4 * r + 3] >= part && r) r--;"),
        pytest.param("arrays[4 * r + 7] : parts", "arrays[4 * r + 7] - 1 : parts", marks=pytest.mark.slow),
    ],
)
def test_an_error_in_the_sum_of_many_blocks_is_seen(right, wrong, planted, monkeypatch):
    planted(right, wrong)
    with pytest.raises((AssertionError, host_cuda.KernelFault)):
        test_large_weights_are_summed_by_many_blocks_with_the_same_bits_for_any_number_of_them(monkeypatch)


@pytest.mark.parametrize("term", ["kl", "l2"])
def test_the_step_with_an_infinite_term_is_the_last(term):
    training, found, infinite = TRAININGS[0], [], np.isin(TERMS, ["total", term])
    for backend in (GPU, "numpy"):
        _, p, state = training.model_and_state(backend, "float64")
        if term == "kl":
            p["mu.b"][0], p["decoder.0.W"][:] = 1e200, 0
        else:  # the weights of a unit that is never active
            p["decoder.0.b"][0], p["output.W"][0] = -1e6, 1e200
        run = steps.stepper(p, state, training.optimizer, DATA, BATCH_SIZE, l2=1e-300, backend=backend)
        with np.errstate(over="ignore"):
            found.append(run(np.zeros((3, BATCH_SIZE), np.int64), 1, 1.0, 0.01))
    for terms in found:
        assert len(terms) == 1 and (np.isinf(terms[0]) == infinite).all()


@pytest.mark.parametrize("waits", [True, False])
def test_an_interrupted_run_is_waited_for(waits, monkeypatch):
    """The steps that were launched still write into their arrays. Whoever reads these, or gets their memory, comes later."""
    launch, wait = host_cuda.Graph.launch, host_cuda.Stream.wait_event
    monkeypatch.setattr(GRAPH, "STEPS_IN_A_GRAPH", 1)

    def interrupted():
        launches, (run, p) = [], stepper()

        def fifth(graph, stream=None):
            launches.append(graph)
            if len(launches) == 5:
                raise KeyboardInterrupt
            launch(graph, stream)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(host_cuda.Graph, "launch", fifth)
            calls(run, [9])
        return p()

    wanted, seen = interrupted(), 0
    if not waits:
        monkeypatch.setattr(host_cuda.Stream, "wait_event", lambda *given: given[0] != host_cuda.Stream.null and wait(*given))
    for seed in (None, 0, 1):
        with host_cuda.late(seed):
            seen += (interrupted() != wanted).any()
    assert bool(seen) != waits


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_a_training_and_what_is_done_with_its_model(real, tmp_path):
    architecture, tolerance = Architecture(30, (20,), 4), 100 * TOLERANCES["model"][real]
    options = dict(epochs=2, batch_size=32, l2=0.1, binarize=True, patience=2, dtype=real)
    runs = [
        train(architecture, DATA, DATA[:20], **options, backend=backend, out=tmp_path / str(i))
        for i, backend in enumerate((GPU, "numpy"))
    ]
    p, q = (run.parameters for run in runs)
    assert type(p.flat) is np.ndarray
    np.testing.assert_allclose(p.flat, q.flat, rtol=tolerance, atol=tolerance)
    for row, wanted in zip(*(run.history for run in runs)):
        del row["seconds"], wanted["seconds"]
        assert row == pytest.approx(wanted, rel=tolerance)
    z = np.random.default_rng(2).normal(size=(6, 4))
    close = functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    close(encode(q, DATA[:9], GPU), encode(q, DATA[:9], "numpy"))
    close(decode(q, z, GPU), decode(q, z, "numpy"))
    by_number = np.array([7, 3, 200, 1, 0], np.uint8)  # the numbers of the rows may have any integer dtype
    close(*(evaluate(q, DATA[:5], examples=by_number, backend=backend).per_example for backend in (GPU, "numpy")))
    close(log_likelihood(q, DATA[:5], 70, backend=GPU), log_likelihood(q, DATA[:5], 70, backend="numpy"))


def test_a_resumed_run_has_the_same_bits(tmp_path):
    options = {"x_train": DATA, "batch_size": 32, "backend": GPU}
    whole = train(TRAININGS[0].architecture, epochs=3, **options)
    train(TRAININGS[0].architecture, epochs=1, out=tmp_path, **options)
    resumed = train(TRAININGS[0].architecture, epochs=3, out=tmp_path, resume=True, **options)
    assert (resumed.parameters.flat == whole.parameters.flat).all()


@pytest.mark.parametrize("wanted, mode", [(None, 0), ("0", 0), ("", 0), ("1", 3)])
def test_a_setting_of_the_environment_that_goes_still_rounds_to_tf32_and_says_what_to_use(wanted, mode, monkeypatch):
    modes, set_mode = [], host_cuda.Cublas.set_math_mode
    monkeypatch.setattr(host_cuda.Cublas, "set_math_mode", lambda self, handle, m: modes.append(m) or set_mode(self, handle, m))
    monkeypatch.setenv("VAE_NP_TF32", wanted) if wanted is not None else monkeypatch.delenv("VAE_NP_TF32", raising=False)
    DEVICE.cublas.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")  # which says the same once
        stepped(GPU, TRAININGS[0], "float32", n=1)
        about = GPU.about()
    DEVICE.cublas.cache_clear()
    assert set(modes) == {mode}
    assert about == f"matrix products of cuBLAS on host, {'of operands rounded to TF32' if mode else 'in full precision'}"
    text = 'VAE_NP_TF32=1 goes with vae_np 0.3; use precision="tfloat32" instead'
    assert [str(warning.message) for warning in said] == [text] * bool(mode)


def test_the_page_of_the_first_run_shows_what_the_command_prints(monkeypatch, capsys):
    import_module = importlib.import_module
    set_of = {kernels.MODULES["cupy"]: GPU}
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(True)})
    monkeypatch.setattr(importlib, "import_module", lambda name: set_of.get(name) or import_module(name))
    with pytest.raises(SystemExit) as ended:
        cli.main(["backends"])
    printed = [line.replace(" on host,", " on NVIDIA H200,") for line in capsys.readouterr().out.splitlines()]
    page = (pathlib.Path(__file__).parents[3] / "docs/gpu-first-run.md").read_text()
    shown = [line.strip() for line in re.findall("^    .*cupy.*", page.partition("## What they print")[2], re.MULTILINE)]
    assert len(shown) == 5 and set(shown) <= set(printed) and ended.value.code in (None, 0)
