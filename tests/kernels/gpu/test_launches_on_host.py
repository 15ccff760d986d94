"""The launches of a step on the GPU: how many there are, what they wait for, and what takes the place of several."""

import collections
import itertools
import random

import numpy as np
import pytest

from tests import host_cuda
from tests.kernels.gpu import on_host
from tests.kernels.gpu.trainings import BATCH_SIZE, DATA, EVERY_CHOICE, TRAININGS, Training, stepped
from vae_np import AdamW, Architecture, steps
from vae_np.testing import TOLERANCES

if not on_host.KERNELS:
    pytest.skip("g++ is not installed: kernels cannot be compiled for the host", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("every_graph_is_captured")
GPU, GRAPH, LAUNCHES, FUSION = on_host.KERNELS, on_host.GRAPH, on_host.LAUNCHES, on_host.FUSION
EXAMPLE = TRAININGS[0]  # it has the layers and choices of the benchmarks' workload `example`
SMALL = [EXAMPLE, Training(Architecture(30, (20, 9), 4, "softplus"), AdamW(0.01), "elbo_mc", 2), TRAININGS[2]]


class Steps:
    """The function that makes steps of a training, and what they launch.

    single: the launches of a step before some of them become one; plans: {number of steps: (launches, before, lanes)}.
    """

    def __init__(self, training, monkeypatch, l2=0.0, run=False):
        self.plans, self.single = {}, []
        fewer, in_lanes = FUSION.fewer, GRAPH.run_in_lanes

        def note_single(launches, *rest):
            self.single = launches
            return fewer(launches, *rest)

        def note_plan(launches, before, lanes, streams):
            self.plans[sum(launch.name == "note" for launch in launches)] = launches, before, lanes
            if run:
                in_lanes(launches, before, lanes, streams)

        monkeypatch.setattr(GRAPH, "fewer", note_single)
        monkeypatch.setattr(GRAPH, "run_in_lanes", note_plan)
        _, p, state = training.model_and_state(GPU, "float32")
        options = {"l2": l2, "backend": GPU}
        make = steps.stepper(p, state, training.optimizer, DATA, BATCH_SIZE, training.objective, training.n_samples, **options)
        make(np.zeros((1 + GRAPH.STEPS_IN_A_GRAPH, BATCH_SIZE), np.int64), 1, 0.7, 0.01)

    def path(self, n):
        """The longest path of n steps. What is on the same stream waits too."""
        _, before, lanes = self.plans[n]
        return LAUNCHES.longest_path(LAUNCHES.with_lanes(before, lanes))


def of_steps(training, lengths, l2, binarize=False):
    """The terms of steps that are made in calls of these lengths, and the parameters after them. No two steps are alike."""
    _, p, state = training.model_and_state(GPU, "float32")
    options = {"l2": l2, "binarize": binarize, "backend": GPU}
    of = training.objective, training.n_samples
    make = steps.stepper(p, state, training.optimizer, DATA, BATCH_SIZE, *of, **options)
    n = sum(lengths)
    rows, rates = np.random.default_rng(1).integers(0, len(DATA), (n, BATCH_SIZE)), np.linspace(0.02, 0.01, n)
    bounds = itertools.pairwise(itertools.accumulate(lengths, initial=0))
    terms = [make(rows[i:j], 1 + i, rates[i:j] * 30, rates[i:j]) for i, j in bounds]
    return np.concatenate(terms), GPU.get(p.flat)


# ------------------------------------------------------------------------------------------------------- how many there are


@pytest.mark.parametrize(
    "training, single, fused, of_one, of_eight",
    [
        (EXAMPLE, 41, 25, 15, 113),
        (SMALL[1], 54, 38, 24, 185),
        (SMALL[2], 33, 24, 14, 105),
    ],
    ids=str,
)
def test_the_number_of_launches_and_the_longest_path(training, single, fused, of_one, of_eight, monkeypatch):
    made = Steps(training, monkeypatch)
    launches, _, lanes = made.plans[1]
    assert (len(made.single), len(launches)) == (single, fused)
    assert (made.path(1), made.path(8)) == (of_one, of_eight) and max(lanes) < GRAPH.MOST_STREAMS
    if training is EXAMPLE:
        assert made.path(1) <= 16 and sum(launch.name == "product" for launch in launches) == 13


def test_a_large_layer_of_the_decoder_stays_a_product_of_cublas(monkeypatch):
    monkeypatch.setattr(FUSION, "READ_BY_ALL_BLOCKS", 0)
    made = Steps(EXAMPLE, monkeypatch)
    assert (len(made.plans[1][0]), made.path(1), made.path(8)) == (27, 17, 129)  # 16 for each step but the first


def test_streams_delay_no_launch(monkeypatch):
    for training in EVERY_CHOICE:
        made = Steps(training, monkeypatch, l2=0.1)
        for n, (_, before, _) in made.plans.items():
            assert made.path(n) == LAUNCHES.longest_path(before), (training, n)


# ------------------------------------------------------------------------------------------------- what waits for what


def test_a_launch_waits_for_those_whose_memory_it_uses():
    a, b, c = (GPU.zeros(4, np.float64) for _ in range(3))

    def functions():
        GPU.sgd(a, b, c, GPU.zeros((), np.float64), 0.0)  # it changes a and c
        GPU.bernoulli_mean(b, GPU.zeros(4, np.float64))
        GPU.bernoulli_mean(a[:2], b[:2])
        GPU.bernoulli_mean(a[2:], b[2:])
        GPU.bernoulli_mean(b[1:3], c[1:3])

    launches = LAUNCHES.recorded(functions)
    assert LAUNCHES.waits(launches) == [set(), set(), {0, 1}, {0, 1}, {2, 3}]
    assert not GPU.get(c).any(), "what is recorded has not run"


def late_without(before, i, j):
    """An order that every wait allows but that of i for j: j comes as late as the others permit."""
    behind = {j}
    for k, needed in enumerate(before):
        if needed - ({j} if k == i else set()) & behind:
            behind.add(k)
    return [k for k in range(len(before)) if k not in behind] + sorted(behind)


@pytest.mark.parametrize(
    "training",
    [pytest.param(training, marks=[pytest.mark.slow] * (i > 0), id=str(training)) for i, training in enumerate(SMALL)],
)
def test_no_launch_waits_in_vain(training, monkeypatch):
    """Without any one of the waits there is an order of launches with other results."""
    monkeypatch.setattr(GRAPH, "STEPS_IN_A_GRAPH", 2)
    _, before, _ = Steps(training, monkeypatch, l2=0.1).plans[2]
    monkeypatch.undo()
    monkeypatch.setattr(GRAPH, "STEPS_IN_A_GRAPH", 2)

    def results(order):
        def run(launches, *_):
            names[:] = [launch.name for launch in launches]
            for k in order if len(launches) == len(before) else range(len(launches)):
                launches[k].run()

        monkeypatch.setattr(GRAPH, "run_in_lanes", run)
        return np.concatenate([array.ravel() for array in of_steps(training, [5], l2=0.1)])

    names = []
    wanted = results(range(len(before)))
    waits = [(i, j) for i, needed in enumerate(before) for j in needed]
    for i, j in random.Random(0).sample(waits, 12):
        seen = not np.array_equal(results(late_without(before, i, j)), wanted)
        # The ELBO's derivative by the nll is the same number in every step.
        assert seen or (names[j], names[i]) == ("elbo_backward", "bernoulli_output"), f"{names[i]} need not wait for {names[j]}"


def random_order(rng, n):
    """For each of n launches the earlier ones that it waits for"""
    return [{j for j in range(i) if rng.random() < 0.15} for i in range(n)]


@pytest.mark.parametrize("seed", range(20))
def test_lanes_keep_every_order(seed):
    rng = random.Random(seed)
    before = random_order(rng, 40)
    for most in (1, 2, 4, 40):
        lanes = LAUNCHES.in_lanes(before, most)
        assert set(lanes) <= set(range(most)) and set(lanes) == set(range(max(lanes) + 1))
        path = LAUNCHES.longest_path(LAUNCHES.with_lanes(before, lanes))
        assert LAUNCHES.longest_path(before) <= path <= 40 and (path == 40 or most > 1)
        done, streams = [], [host_cuda.Stream(non_blocking=True) for _ in range(max(lanes) + 1)]
        with host_cuda.late(seed):
            LAUNCHES.run_in_lanes([noted_in(done, i) for i in range(40)], before, lanes, streams)
            streams[0].synchronize()
            assert sorted(done) == list(range(40)), "the first stream waits for all others"
        places = {i: k for k, i in enumerate(done)}
        assert all(places[j] < places[i] for i, needed in enumerate(before) for j in needed)


def noted_in(done, i, until=40):
    """A launch that puts i into a list; from `until` on it is interrupted."""

    def run():
        if i == until:
            raise KeyboardInterrupt
        host_cuda.streams.submit(lambda: done.append(i))

    return LAUNCHES.Launch(str(i), (), run, [], [])


@pytest.mark.parametrize("seed", range(5))
def test_what_was_launched_before_an_interruption_is_waited_for(seed):
    before, done = random_order(random.Random(seed), 40), []
    lanes = LAUNCHES.in_lanes(before, 4)
    with host_cuda.late(seed):
        streams = [host_cuda.Stream(non_blocking=True) for _ in range(4)]
        with pytest.raises(KeyboardInterrupt):
            LAUNCHES.run_in_lanes([noted_in(done, i, until=30) for i in range(40)], before, lanes, streams)
        streams[0].synchronize()
        assert sorted(done) == list(range(30))


# ------------------------------------------------------------------------------------- what takes the place of several


def names_of(training, monkeypatch):
    return collections.Counter(launch.name for launch in Steps(training, monkeypatch).plans[1][0])


def test_what_nothing_reads_is_not_launched(monkeypatch):
    made = Steps(EXAMPLE, monkeypatch)
    before, after = (collections.Counter(launch.name for launch in found) for found in (made.single, made.plans[1][0]))
    assert before["constant"] == 1 and not after["constant"]
    shared = names_of(Training(Architecture(30, (20,), 4, likelihood="gaussian", noise="shared")), monkeypatch)
    assert shared["constant"] == 1


def test_a_launch_that_waits_for_another_of_its_own_kind_stays_alone(monkeypatch):
    """Importance weights come from the nll of all samples, and the derivative of the nll waits for them."""
    found = names_of(Training(Architecture(30, (20,), 4), objective="iwae", n_samples=3), monkeypatch)
    assert found["bernoulli_output"] == found["bernoulli_nll_backward"] == found["iwae_backward"] == 1
    assert "bernoulli_nll_backward" not in names_of(EXAMPLE, monkeypatch)


CHOICES = [
    *SMALL,
    Training(Architecture(30, (20,), 4, "tanh"), n_samples=3),
    Training(Architecture(30, (20,), 4, "gelu"), objective="iwae", n_samples=3),
]


@pytest.mark.parametrize(
    "training, real",
    [
        pytest.param(training, real, id=f"{training}-{real}", marks=[pytest.mark.slow] * (i % 2 == (real == "float32")))
        for i, training in enumerate(CHOICES)
        for real in ("float32", "float64")
    ],
)
def test_fewer_launches_do_the_same(training, real, monkeypatch):
    fused, wanted = stepped(GPU, training, real, 6), stepped("numpy", training, real, 6)
    for change in ((FUSION, "READ_BY_ALL_BLOCKS", 0), (GRAPH, "fewer", lambda launches, *_: launches)):
        monkeypatch.setattr(*change)
        for a, b, c in zip(stepped(GPU, training, real, 6), fused, wanted):
            np.testing.assert_allclose(a, b, rtol=20 * TOLERANCES["model"][real], atol=20 * TOLERANCES["model"][real])
            np.testing.assert_allclose(b, c, rtol=20 * TOLERANCES["model"][real], atol=20 * TOLERANCES["model"][real])


def same_in_any_order(training):
    """Whether steps have the same bits in any order of threads and for any number of blocks, and are those of the reference."""
    found = []
    for (order, most), edge in zip(zip(host_cuda.ORDERS, (1, 3, 4096)), ("end", "start", "end")):
        with host_cuda.order(order), host_cuda.placement(edge), on_host.blocks(256, most=most):
            found.append(stepped(GPU, training, "float32", 3))
    close = all(
        np.allclose(a, b, rtol=20 * TOLERANCES["model"]["float32"], atol=20 * TOLERANCES["model"]["float32"])
        for a, b in zip(found[0], stepped("numpy", training, "float32", 3))
    )
    return close and all(np.array_equal(a, b) for pair in found[1:] for a, b in zip(pair, found[0]))


@pytest.mark.parametrize("training", CHOICES, ids=str)
def test_the_bits_depend_on_no_order_and_no_number_of_blocks(training):
    assert same_in_any_order(training)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("        total += twice_kl(m, s);\n    }\n    __syncthreads();", "        total += twice_kl(m, s);\n    }"),
        pytest.param("size b) {\n    __syncthreads();", "size b) {", marks=pytest.mark.slow),
        pytest.param("of_sample = k / Z * B * Z + i", "of_sample = k / Z * Z + i", marks=pytest.mark.slow),
        ("row = k / H * B + b", "row = b"),
        pytest.param("dlogits[r * D + d] = dnll[r] *", "dlogits[r * D + d] =", marks=pytest.mark.slow),
        pytest.param("dmu[i] = dkl[i / Z] * mu[i] + of_mu;", "dmu[i] = of_mu;", marks=pytest.mark.slow),
        pytest.param("other ? dh[i] + other[i] : dh[i]", "dh[i]", marks=pytest.mark.slow),
        pytest.param("while (arrays[5 * k + 4] > part) k--;", "", marks=pytest.mark.slow),
        ("32 * (part - array[4])", "32 * part"),
        ("(const whole *)feeds[3 * rows_at + 1] + counters[0] * B", "(const whole *)feeds[3 * rows_at + 1]"),
        pytest.param(
            "(const whole *)feeds[3 * step_at + 1] + counters[0]",
            "(const whole *)feeds[3 * step_at + 1]",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_error_in_what_takes_the_place_of_several_is_seen(right, wrong, planted):
    planted(right, wrong)
    try:
        assert not all(same_in_any_order(training) for training in (EXAMPLE, *CHOICES[1::2]))
    except (host_cuda.KernelFault, IndexError):
        pass


@pytest.mark.parametrize("l2, binarize", [(0.0, False), (0.1, True)])
def test_a_step_of_many_is_the_one_that_is_made_alone(l2, binarize):
    wanted = of_steps(EXAMPLE, [1] * 21, l2, binarize)
    for lengths in ([21], [9, 12], [3, 18]):
        assert all((a == b).all() for a, b in zip(of_steps(EXAMPLE, lengths, l2, binarize), wanted))


def test_arrays_that_are_too_large_for_indices_of_32_bits_have_those_of_64(monkeypatch):
    """The bits are the same."""
    built, module = set(), on_host.DEVICE.module
    monkeypatch.setattr(on_host.DEVICE, "module", lambda *given: built.add(given[2]) or module(*given))
    found = []
    for largest in (on_host.DEVICE.LARGEST_INDEX, 0):
        on_host.DEVICE.kernel.cache_clear()
        monkeypatch.setattr(on_host.DEVICE, "LARGEST_INDEX", largest)
        found.append(stepped(GPU, SMALL[1], "float32", 3))
    assert built == {"int", "long long"} and all((a == b).all() for a, b in zip(*found))
    large = GPU.zeros(3, np.float32)
    monkeypatch.setattr(on_host.DEVICE, "LARGEST_INDEX", 2)
    [launch] = LAUNCHES.recorded(lambda: GPU.bernoulli_mean(large, large))
    assert type(launch.run.args[2][-1]) is np.int64
