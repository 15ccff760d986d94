"""The costs that are found by running the reference are those that its formulas say."""

import numpy as np
import pytest

from benchmarks import costs
from vae_np.testing.operations import OPERATIONS, random_arguments, with_changes

SIZES = B, D, H, Z, L = costs.Sizes(7, 33, 19, 5, 2)
LAYER, HIDDEN, LATENT, PIXELS, WEIGHTS = B * D * H, B * H, L * B * Z, L * B * D, D * H
FORMULAS = {  # what is read, what is written, and the number of floating-point operations
    "affine": ("x W b", "y", 2 * LAYER + HIDDEN),
    "affine_backward": ("dy W", "dx", 2 * LAYER),
    "affine_backward_add": ("dy W dx", "dx", 2 * LAYER + B * D),
    "affine_gradients": ("x dy W", "dW db", 2 * LAYER + 2 * WEIGHTS + HIDDEN),
    "constant": ("b", "y", 0),
    "constant_gradients": ("dy", "db", HIDDEN),
    "affine_relu": ("x W b", "h", 2 * LAYER + 2 * HIDDEN),
    "relu_backward": ("dh h", "dh", HIDDEN),
    "affine_tanh": ("x W b", "h", 2 * LAYER + 2 * HIDDEN),
    "tanh_backward": ("dh h", "dh", 4 * HIDDEN),
    "affine_softplus": ("x W b", "h", 2 * LAYER + 7 * HIDDEN),
    "softplus_backward": ("dh h", "dh", 4 * HIDDEN),
    "reparameterize": ("mu logvar eps", "z", 2 * B * Z + 2 * LATENT),
    "reparameterize_backward_add": ("dz logvar eps dmu dlogvar", "dmu dlogvar", 3 * LATENT + 6 * B * Z),
    "gaussian_kl": ("mu logvar", "kl", 5 * B * Z + B),
    "gaussian_kl_backward": ("dkl mu logvar", "dmu dlogvar", 4 * B * Z),
    "sampled_kl": ("logvar eps z", "kl", 5 * LATENT + L * B),
    "sampled_kl_backward": ("dkl z dz", "dz dmu dlogvar", 2 * LATENT + L * B + 2 * B),
    "bernoulli_nll": ("logits x", "nll", 12 * PIXELS + B * D),
    "bernoulli_nll_backward": ("dnll logits x", "dlogits", 17 * PIXELS + B * D),
    "gaussian_nll": ("mean output_logvar x", "nll", 8 * PIXELS + L * B),
    "gaussian_nll_backward": ("dnll mean output_logvar x", "dmean doutput_logvar", 10 * PIXELS + L * B),
    "bernoulli_mean": ("logits", "mean", 6 * PIXELS),
    "gaussian_mean": ("output", "mean", 0),
    "elbo": ("nll kl", "loss", L * B + 5 * B),
    "elbo_backward": ("", "dnll dkl", 0),
    "iwae": ("nll kl", "loss", 7 * L * B + 4 * B),
    "iwae_backward": ("nll kl", "dnll dkl", 9 * L * B + B),
    "sgd": ("p g velocity", "p velocity", 4 * WEIGHTS),
    "adagrad": ("p g squares", "p squares", 7 * WEIGHTS),
    "adam": ("p g m v", "p m v", 14 * WEIGHTS),
    "gather": ("data rows", "x", B * D),
    "normals": ("examples", "eps", None),
    "binarize": ("pixels examples", "x", None),
}


def test_only_an_operation_that_does_nothing_has_no_cost():
    assert set(OPERATIONS) - set(costs.costly_operations()) == {"constant_backward_add", "unit_path_weight"}
    assert [name for name in OPERATIONS if name in costs.costly_operations()] == costs.costly_operations()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_cost_is_what_the_formula_says(name):
    reads, writes, operations = FORMULAS[name]
    found = costs.cost(name, SIZES)
    assert (set(found.reads), set(found.writes), found.operations) == (set(reads.split()), set(writes.split()), operations)
    assert len(found.reads) == len(set(found.reads)) and len(found.writes) == len(set(found.writes))


def test_only_noise_is_not_counted():
    assert [name for name in OPERATIONS if costs.cost(name, SIZES).operations is None] == ["normals", "binarize"]


def test_all_that_numpy_computes_is_counted(monkeypatch):
    """Functions may have one result or two, write in place or to a new array, and take what others have computed."""

    def tanh_backward(dh, y, h):
        mantissa, exponent = np.frexp(h)  # 1
        power = np.ldexp(mantissa, exponent)  # 1
        dh += np.maximum(power, 0)  # 2
        np.multiply(dh, np.where(h > 0, 1 - h, h), out=dh)  # 3
        dh *= h.max(axis=-1, keepdims=True)  # 2
        dh += 1 / h.sum()  # 2, but for the one division
        np.matmul(h[None], np.ones((H, 1)))  # 2, as each multiplication comes with an addition
        np.abs(h, out=dh)  # 1
        dh[dh > 0] *= 2  # 2, as no element is 0
        return dh

    monkeypatch.setattr(costs, "REFERENCE", with_changes(tanh_backward=tanh_backward))
    assert costs.cost("tanh_backward", SIZES).operations == 16 * HIDDEN + 1


@pytest.mark.parametrize(
    "name, read, written, touched",
    [
        ("affine", 7 * 33 + 33 * 19 + 19, 7 * 19, 7 * 33 + 33 * 19 + 19 + 7 * 19),
        ("tanh_backward", 2 * 7 * 19, 7 * 19, 2 * 7 * 19),  # dh is read and written
        ("adam", 4 * 33 * 19, 3 * 33 * 19, 4 * 33 * 19),  # p, m and v are read and written, and g is read
        ("gather", (7 * 33 + 8 * 7) / 4, 7 * 33, (7 * 33 + 8 * 7) / 4 + 7 * 33),  # a row of bytes for each row of the batch
        ("elbo_backward", 0, 2 * 7 + 7, 2 * 7 + 7),  # dnll (L, B), dkl (1, B)
    ],
)
def test_the_traffic_is_that_of_the_arrays(name, read, written, touched):
    arguments = random_arguments(name, "float32", SIZES)
    found = costs.traffic(name, costs.cost(name, SIZES), arguments)
    assert found == (4 * read, 4 * written, 4 * touched)


@pytest.mark.parametrize("read, written, seconds", [(30, 10, 6.0), (30, 40, 8.0), (0, 40, 8.0), (30, 0, 6.0)])
def test_traffic_takes_the_longer_of_its_two_times(read, written, seconds):
    """An array that is changed in place is read while others are written, which a copy of as many bytes is not faster than."""
    assert costs.Traffic(read, written, 40).seconds({"read": 5.0, "write": 5.0}) == seconds
    assert costs.Traffic(2 * read, written, 40).seconds({"read": 10.0, "write": 5.0}) == seconds
