"""Whole training steps: captured and run as a program, they are the steps that the model makes line by line."""

import contextlib
import functools
import inspect
import itertools
import threading

import numpy as np
import pytest
import threadpoolctl

from tests.kernels.gpu import on_host
from vae_np import SGD, Adagrad, Adam, AdamW, Architecture, Parameters, elbo, kernels, steps, train
from vae_np.buffers import batch_slice, buffers
from vae_np.choices import ESTIMATORS
from vae_np.parameters import n_parameters
from vae_np.testing import TOLERANCES
from vae_np.testing.comparison import assert_near
from vae_np.testing.suite import trials

RUNNABLE = [name for name, status in kernels.available().items() if status.ok]
PROGRAMS = [name for name in RUNNABLE if name == "numba"]  # of threads
CAPTURING = PROGRAMS + [pytest.param(name, marks=pytest.mark.gpu) for name in RUNNABLE if name == "cupy"]
CAPTURING_SLOW_ON_HOST = list(CAPTURING)
if on_host.KERNELS:
    CAPTURING.append(pytest.param(on_host.KERNELS, id=on_host.NAME))
    CAPTURING_SLOW_ON_HOST.append(pytest.param(on_host.KERNELS, id=on_host.NAME, marks=pytest.mark.slow))
DATA = np.random.default_rng(0).integers(0, 256, (50, 30), dtype=np.uint8)
ROWS = np.random.default_rng(1).integers(0, 50, (6, 12))
KINDS = [
    {"activation": "relu"},
    {"activation": "tanh", "likelihood": "gaussian", "noise": "shared"},
    {"activation": "softplus", "likelihood": "gaussian", "noise": "heteroscedastic"},
    {"activation": "tanh", "likelihood": "gaussian"},
]


def made(
    backend,
    kind=KINDS[0],
    hidden=(20, 11),
    dtype="float64",
    optimizer=Adam(0.01),
    rows=ROWS,
    beta=0.7,
    rate=None,
    data=DATA,
    **options,
):
    """(terms, parameters, the optimizer's arrays) after a few steps."""
    p = Parameters.initialize(Architecture(data.shape[1], hidden, 5, **kind), dtype=dtype)
    model = elbo.bind(p.architecture, backend=backend)
    state, p = {name: model.put(array) for name, array in optimizer.initial_state(p).items()}, p.moved(model.put)
    run = steps.stepper(p, state, optimizer, data, rows.shape[1], backend=backend, **options)
    terms = run(rows, 3, beta, optimizer.learning_rate if rate is None else rate)
    return terms, model.get(p.flat), {name: model.get(array) for name, array in state.items()}


@pytest.mark.parametrize("backend", CAPTURING)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))
@pytest.mark.parametrize("objective, n_samples", [("elbo", 1), ("elbo", 3), ("elbo_mc", 2), ("iwae", 5)])
def test_captured_steps_are_those_of_the_reference(backend, dtype, kind, objective, n_samples):
    options = {"objective": objective, "n_samples": n_samples, "dtype": dtype, "l2": 0.1, "kind": kind}
    (terms, p, _), (wanted, q, _) = (made(name, **options) for name in (backend, "numpy"))
    tolerance = 10 * TOLERANCES["model"][dtype]  # six steps, each from where the last one ended
    np.testing.assert_allclose(terms, wanted, rtol=tolerance)
    np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", CAPTURING)
@pytest.mark.parametrize(
    "objective, estimator",
    [(objective, name) for name, of in ESTIMATORS.items() for objective in of.operations if name != "total"],
)
def test_captured_steps_of_every_estimator_are_those_of_the_reference(backend, objective, estimator):
    """The factor beta changes from step to step. Three slices of a batch, and other gradients than those of "total"."""
    rows = np.random.default_rng(3).integers(0, 50, (6, 37))
    options = {"objective": objective, "n_samples": 6, "rows": rows, "l2": 0.1, "beta": np.linspace(0, 1.5, 6)}
    options["optimizer"] = SGD(0.01, 0.9)  # its steps are as large as the gradients, and not of one size
    (terms, p, _), (wanted, q, _) = (made(name, estimator=estimator, **options) for name in (backend, "numpy"))
    np.testing.assert_allclose(terms, wanted, rtol=1e-10)
    np.testing.assert_allclose(p, q, rtol=1e-8, atol=1e-12)
    assert np.abs(q - made("numpy", **options)[1]).max() > 1e-4


@pytest.mark.parametrize("backend", CAPTURING)
@pytest.mark.parametrize("objective, n_samples, threads", [("elbo", 1, 3), ("elbo_mc", 7, 1), ("iwae", 7, 2)])
def test_a_batch_of_several_parts_is_one_batch(backend, objective, n_samples, threads):
    rows = np.random.default_rng(3).integers(0, 50, (4, 37))
    options = {"objective": objective, "n_samples": n_samples, "rows": rows, "l2": 0.1}
    (terms, p, _), (wanted, q, _) = (made(name, threads=threads, **options) for name in (backend, "numpy"))
    np.testing.assert_allclose(terms, wanted, rtol=1e-11)
    np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("backend", CAPTURING)
@pytest.mark.parametrize(
    "optimizer", [SGD(0.01, 0.9), Adagrad(0.01), Adam(0.01), AdamW(0.01, weight_decay=0.5)], ids=lambda o: type(o).__name__
)
@pytest.mark.parametrize("hidden", [(), (20,)])
def test_every_optimizer(backend, optimizer, hidden):
    (_, p, state), (_, q, state_q) = (made(name, optimizer=optimizer, hidden=hidden) for name in (backend, "numpy"))
    np.testing.assert_allclose(p, q, rtol=1e-10, atol=1e-13)
    for name in state:
        np.testing.assert_allclose(state[name], state_q[name], rtol=1e-9, atol=1e-13)


LARGE = {  # weights of several pieces, and batches of several slices
    "data": np.random.default_rng(2).integers(0, 256, (50, 300), dtype=np.uint8),
    "rows": np.random.default_rng(3).integers(0, 50, (40, 37)),
    "hidden": (200,),
}


@pytest.mark.parametrize("backend, precision", [(name, each) for name in PROGRAMS for each in kernels.precisions(name)])
@pytest.mark.parametrize("objective, n_samples", [("elbo", 1), ("iwae", 7)])
def test_the_number_of_threads_changes_no_bit(backend, precision, objective, n_samples):
    options = {"objective": objective, "n_samples": n_samples, "precision": precision, **LARGE}
    options["dtype"] = "float64" if precision == "float32" else "float32"
    first, *others = (made(backend, threads=n, **options) for n in (1, 2, 3, 5, 2))
    for other in others:
        assert (other[0] == first[0]).all() and (other[1] == first[1]).all()


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: "-".join(kind.values()))
@pytest.mark.parametrize("objective, n_samples", [("elbo", 1), ("iwae", 5)])
def test_steps_at_a_lower_precision_are_those_of_the_reference(lower, kind, objective, n_samples):
    """In double precision to the last digits; the weights, the L2 term and the optimizer are not rounded."""
    backend, precision = lower
    options = {"objective": objective, "n_samples": n_samples, "l2": 0.1, "kind": kind, "precision": precision}
    (terms, p, state), (wanted, q, state_q) = (made(name, **options) for name in (backend, "numpy"))
    tolerance = 10 * TOLERANCES["model"]["float64"]
    np.testing.assert_allclose(terms, wanted, rtol=tolerance)
    np.testing.assert_allclose(p, q, rtol=tolerance, atol=tolerance)
    for name in state:
        np.testing.assert_allclose(state[name], state_q[name], rtol=1e-9, atol=1e-13)


def test_steps_at_a_lower_precision_differ_little_in_single_precision(lower):
    """From those of the reference: by the rare operands that another last digit before them rounds in another way.

    With the weights this grows from step to step, in some forty steps to what the rounding itself does.
    """
    options = {"dtype": "float32", "optimizer": SGD(0.01, 0.9), **LARGE, "rows": LARGE["rows"][:3]}
    (terms, _, state), (wanted, _, state_q) = (made(name, precision=lower[1], **options) for name in (lower[0], "numpy"))
    assert_near(terms.astype("float32"), wanted, "the terms", "rounded")
    assert_near(state["velocity"], state_q["velocity"], "the sum of the gradients", "rounded")
    assert (terms != made(lower[0], **options)[0]).any()


@pytest.mark.parametrize("backend", CAPTURING)
def test_what_changes_from_step_to_step(backend):
    """beta, the learning rate, the noise and the batch; in one call or in several; black and white or grey."""
    numbers = {"beta": np.linspace(0, 1, 6), "rate": np.geomspace(0.1, 0.001, 6), "binarize": True, "seed": 5}
    (terms, p, _), (wanted, q, _) = (made(name, **numbers) for name in (backend, "numpy"))
    np.testing.assert_allclose(terms, wanted, rtol=1e-11)
    np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-13)
    model, p = elbo.bind(Architecture(30, (20, 11), 5), backend=backend), Parameters.initialize(Architecture(30, (20, 11), 5))
    state, p = {name: model.put(array) for name, array in Adam().initial_state(p).items()}, p.moved(model.put)
    run = steps.stepper(p, state, Adam(), DATA, 12, backend=backend, binarize=True, seed=5)
    apart = [run(ROWS[i : i + 2], 3 + i, numbers["beta"][i : i + 2], numbers["rate"][i : i + 2]) for i in (0, 2, 4)]
    assert (np.concatenate(apart) == terms).all()


def test_what_is_not_said_is_as_in_training():
    of_training, of_steps = (inspect.signature(function).parameters for function in (train, steps.stepper))
    for name in of_steps.keys() & of_training.keys() - {"optimizer", "batch_size"}:
        assert of_steps[name].default == of_training[name].default, name


@pytest.mark.parametrize("backend", PROGRAMS)
@pytest.mark.parametrize("work, threads, wanted", [(0, None, 1), (1, None, 3), (1, 2, 2), (0, 2, 2), (1, 1, 1)])
def test_a_step_that_is_work_enough_has_all_cores_that_the_process_may_use(monkeypatch, backend, work, threads, wanted):
    p, kernel_set, seen = Parameters.initialize(Architecture(30, (20,), 5)), kernels.load(backend), []
    monkeypatch.setattr(steps, "usable_cores", lambda: 3)
    monkeypatch.setattr(steps, "ENOUGH_FOR_THREADS", p.flat.size * 12 * 2 - work)
    edges = kernel_set.edges
    monkeypatch.setattr(kernel_set, "edges", lambda *numbers: seen.append(numbers) or edges(*numbers))
    steps.stepper(p, Adam().initial_state(p), Adam(), DATA, 12, n_samples=2, backend=backend, threads=threads)
    assert seen == [(12, 2, wanted)]


def test_threads_are_the_blas_s_where_a_set_has_none_of_its_own():
    assert [steps.blas_threads(kernels.load("numpy"), n) for n in (None, 1, 3)] == [1, 1, 3]
    for backend in PROGRAMS:
        assert [steps.blas_threads(kernels.load(backend), n) for n in (None, 1, 3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "backend, threads, wanted", [("numpy", None, 1), ("numpy", 3, 3), *((name, 3, 1) for name in PROGRAMS)]
)
def test_steps_limit_the_blas_by_themselves(monkeypatch, backend, threads, wanted):
    """To their own threads, or to one where the program has threads; whoever calls them may have set another number."""
    p, seen = Parameters.initialize(Architecture(30, (20,), 5)), []
    run = steps.stepper(p, SGD().initial_state(p), SGD(), DATA, 12, backend=backend, threads=threads)
    broadcast_to = np.broadcast_to

    def look(*arguments):
        seen.extend(i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas")
        return broadcast_to(*arguments)

    monkeypatch.setattr(np, "broadcast_to", look)
    with threadpoolctl.threadpool_limits(2):
        run(ROWS, 1, 1.0, 0.01)
    assert set(seen) == {wanted}


def test_a_loss_that_is_not_finite_is_the_last(backend):
    with np.errstate(all="ignore"):
        terms, _, _ = made(backend, optimizer=SGD(1e300), kind=KINDS[3], rows=np.tile(ROWS, (5, 1)))
    assert 1 <= len(terms) < 30 and np.isfinite(terms[:-1]).all() and not np.isfinite(terms[-1, 0])


@pytest.mark.parametrize("backend", CAPTURING_SLOW_ON_HOST)
def test_every_property_of_the_elbo_holds_in_a_program(backend):
    """Each property is tried on a ninth of the problems; where the GPU is simulated in small blocks."""
    simulated, by_program = backend is on_host.KERNELS, by_programs(backend)
    with on_host.blocks(32) if simulated else contextlib.nullcontext():
        for check, problem in trials()[::9]:  # which shares no factor with the number of properties
            check(by_program, problem)


def by_programs(backend):
    """`loss_and_gradients` by programs of one step, each for one model and one size of batch.

    As a stepper's, a program runs again with other values. The last two are kept: two calls at one time have one each, and
    few arrays are alive, all of which the stand-in looks at after each launch.
    """
    kept, lock = [], threading.Lock()

    def model(p, x, eps, beta=1.0, l2=0.0, objective="elbo"):
        eps = np.reshape(eps, (-1, *eps.shape[-2:]))
        kind = p.architecture, p.flat.dtype.type, *eps.shape[:2], l2, objective
        with lock:
            program = next((kept.pop(i)[1] for i in range(len(kept)) if kept[i][0] == kind), None)
        program = program or program_of(backend, *kind)
        result = program(p, x, eps, beta)
        with lock:
            kept.append((kind, program))
            del kept[:-2]
        return result

    return model


def program_of(backend, arch, real, n_samples, n_examples, l2, objective):
    """A function p, x, eps, beta -> value, gradient: the gradient is what the first step of momentum keeps."""
    model, kernel_set = elbo.bind(arch, objective, backend), kernels.load(backend)
    a, d = (buffers(arch, objective, n_samples, n_examples, real, model.zeros) for _ in range(2))
    p, g, velocity = (Parameters(arch, model.zeros(n_parameters(arch), real)) for _ in range(3))
    layers, g_layers, nothing = p.layers, g.layers, model.zeros(1, np.float64)
    rate, beta = model.zeros((), np.float64), model.zeros((), real)
    halves = sorted({0, n_examples // 2, n_examples}) if backend in PROGRAMS else [0, n_examples]

    def of_part(start, stop, kernels):
        model, chunk, d_part = elbo.bind(arch, objective, kernels), batch_slice(a, start, stop), batch_slice(d, start, stop)
        model.forward(layers, chunk, beta)
        model.backward(layers, chunk, d_part, beta, n_examples)

    def of_weights(kernels):
        elbo.bind(arch, objective, kernels).weight_gradients(layers, a, d, g_layers, real(l2))
        kernels.sgd(p.flat, g.flat, velocity.flat, rate, 0.0)

    squares = [W for name, W in p.items() if name.endswith(".W")]
    parts = [functools.partial(of_part, *edge) for edge in itertools.pairwise(halves)]
    run = kernel_set.capture(parts, of_weights, (a.loss, a.nll, a.kl), squares, (beta,), (nothing,))

    def steps_from(q, x, eps, beta, threads, n_steps):
        p.flat[...] = model.put(q.flat)
        velocity.flat.fill(0)
        for start, stop in itertools.pairwise(halves):
            chunk = batch_slice(a, start, stop)
            chunk.x[...], chunk.eps[...] = model.put(x[start:stop].astype(real)), model.put(eps[:, start:stop].astype(real))
        loss, nll, kl, *sums = run(threads, (np.full(n_steps, beta), np.zeros((n_steps, 1))))[-1]
        penalty = float(l2) / 2 * sum(sums)
        value = elbo.Value(loss + penalty, nll, kl, penalty, model.get(a.loss).copy())
        return value, Parameters(arch, model.get(velocity.flat).copy())

    def program(*arguments):
        nonlocal n_steps
        value, gradient = steps_from(*arguments, 1, n_steps)
        n_steps = 1
        if backend in PROGRAMS:
            other, other_gradient = steps_from(*arguments, 2, n_steps)
            for one, two in (*zip(value, other), (gradient.flat, other_gradient.flat)):
                np.testing.assert_array_equal(one, two, "two threads do not give the bits of one")
        return value, gradient

    n_steps = 2  # with nothing learned: where a graph is captured, it is after the first step
    return program


@pytest.mark.parametrize("backend", PROGRAMS)
@pytest.mark.parametrize(
    "size, bias, sentence",
    [
        (24, slice(16, 20), "some weights are updated by no task, or by more than one"),
        (20, slice(15, 19), "a layer's bias must stand right behind its weights"),
    ],
)
def test_weights_that_would_go_without_an_update_are_seen(backend, size, bias, sentence):
    p, g = np.zeros(size), np.zeros(size)
    x, dy, W = np.zeros((3, 4)), np.zeros((3, 4)), p[:16].reshape(4, 4)

    def of_weights(kernels):
        kernels.affine_gradients(x, dy, W, 0.0, g[:16].reshape(4, 4), g[bias])
        kernels.sgd(p, g, np.zeros(size), 0.1, 0.0)

    with pytest.raises(AssertionError, match=sentence):
        kernels.load(backend).capture([], of_weights, (), (), (np.zeros(1),), (np.zeros(1),))


def test_parts_of_a_batch_are_its_rows():
    arch = Architecture(5, (4, 3), 2)
    whole = buffers(arch, "iwae", 3, 7, "float64")
    for number, (start, stop) in enumerate([(0, 3), (3, 4), (4, 7)], 1):
        chunk = batch_slice(whole, start, stop)
        assert chunk.z.shape == (3, stop - start, 2) and chunk.x.shape == (stop - start, 5)
        assert chunk.encoder[0].base is not None and np.shares_memory(chunk.encoder[0], chunk.x)
        for array in [
            chunk.x,
            chunk.eps,
            *chunk.encoder,
            chunk.mu,
            chunk.logvar,
            chunk.z,
            *chunk.decoder,
            chunk.output,
            chunk.output_logvar,
        ]:
            assert (array == 0).all() or array is chunk.encoder[0] or array is chunk.decoder[0]
            array += number
    assert set(np.unique(whole.mu)) == {1, 2, 3} and (whole.loss == 0).all()
    assert [int((whole.output == n).sum()) for n in (1, 2, 3)] == [45, 15, 45]


@pytest.mark.parametrize("backend", PROGRAMS)
def test_what_a_step_reports_is_its_own_however_far_ahead_a_thread_is(backend):
    """A thousand tiny steps, so that threads run past each other; l2 has its sums taken in the first half of a step."""
    rows = np.random.default_rng(4).integers(0, 50, (1000, 4))
    first, *others = (made(backend, threads=n, rows=rows, hidden=(4,), l2=0.1)[0] for n in (1, 2, 3))
    assert all((terms == first).all() for terms in others)


@pytest.mark.parametrize("backend", PROGRAMS)
def test_a_thread_that_cannot_start_lets_nobody_wait(backend, monkeypatch):
    p = Parameters.initialize(Architecture(30, (20,), 5))
    run = steps.stepper(p, Adam().initial_state(p), Adam(), DATA, 12, backend=backend, threads=3)
    start, started = threading.Thread.start, []

    def refuses_the_second(thread):
        started.append(thread)
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses_the_second)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run(ROWS, 1, 1.0, 0.01)
    assert np.isfinite(run(ROWS, 1, 1.0, 0.01)).all() and len(run(ROWS[:0], 1, 1.0, 0.01)) == 0


@pytest.mark.parametrize("backend", [*CAPTURING, "numpy"])
def test_a_sample_without_any_weight_does_not_end_the_training(backend):
    """Under "iwae" a sample may have an infinite loss, and so the mean of all, while the bound is finite."""
    kind, rows = {"activation": "relu", "likelihood": "gaussian"}, np.zeros((3, 1), np.int64)
    p = Parameters.initialize(Architecture(1, (), 1, **kind), dtype="float32")
    p["output.W"][...], p["logvar.b"][...] = 1e19, 4.0
    model = elbo.bind(p.architecture, "iwae", backend)
    state = {name: model.put(array) for name, array in SGD(1e-30).initial_state(p).items()}
    run = steps.stepper(p.moved(model.put), state, SGD(1e-30), np.zeros((1, 1)), 1, "iwae", 400, backend=backend)
    with np.errstate(all="ignore"):
        terms = run(rows, 1, 1.0, 1e-30)
    assert len(terms) == 3 or not np.isfinite(terms[-1, 0])
