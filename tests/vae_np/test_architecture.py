import dataclasses

import numpy as np
import pytest

from vae_np import Architecture, architecture
from vae_np.architecture import check_choice, check_count, check_number


def test_names_and_shapes_of_the_parameters():
    assert Architecture(784, (400, 200), 20).shapes == {
        "encoder.0.W": (784, 400),
        "encoder.0.b": (400,),
        "encoder.1.W": (400, 200),
        "encoder.1.b": (200,),
        "mu.W": (200, 20),
        "mu.b": (20,),
        "logvar.W": (200, 20),
        "logvar.b": (20,),
        "decoder.0.W": (20, 200),
        "decoder.0.b": (200,),
        "decoder.1.W": (200, 400),
        "decoder.1.b": (400,),
        "output.W": (400, 784),
        "output.b": (784,),
    }


def test_a_linear_model_has_no_hidden_layers():
    assert list(Architecture(5, (), 2).shapes) == ["mu.W", "mu.b", "logvar.W", "logvar.b", "output.W", "output.b"]


@pytest.mark.parametrize(
    "noise, extra",
    [
        ("fixed", {}),
        ("shared", {"noise.logvar": (1,)}),
        ("heteroscedastic", {"output_logvar.W": (4, 5), "output_logvar.b": (5,)}),
    ],
)
def test_learned_noise_adds_parameters(noise, extra):
    shapes = Architecture(5, (4,), 2, likelihood="gaussian", noise=noise).shapes
    assert {name: shapes[name] for name in list(shapes)[list(shapes).index("output.b") + 1 :]} == extra


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"n_inputs": 0}, "n_inputs is 0; it must be a whole number, 1 or more"),
        ({"n_inputs": 2.5}, "n_inputs is 2.5"),
        ({"n_latent": True}, "n_latent is True"),
        ({"hidden": 400}, r"hidden is 400; it must be a sequence of layer widths such as \(400,\), or \(\)"),
        ({"hidden": (3, -1)}, "a width in hidden is -1"),
        ({"hidden": "ab"}, "hidden is 'ab'"),
        ({"activation": "mish"}, "activation is 'mish'; known are 'relu', 'tanh', 'softplus'"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'; known are 'bernoulli', 'gaussian'"),
        (
            {"likelihood": "gaussian", "noise": "white"},
            "noise is 'white'; known are 'fixed', 'shared', 'heteroscedastic'",
        ),
        ({"likelihood": "gaussian", "noise_std": 0}, "noise_std is 0; it must be a finite number, above 0"),
        ({"noise": "shared"}, "noise and noise_std belong to likelihood='gaussian'"),
    ],
)
def test_what_makes_no_model_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Architecture(**{"n_inputs": 5, **fields})


def test_the_gaussian_noise_may_be_any_and_the_bernoulli_one_none():
    for noise in ("fixed", "shared", "heteroscedastic"):
        assert Architecture(5, likelihood="gaussian", noise=noise, noise_std=2).noise_std == 2.0
    for fields in ({"noise": "shared"}, {"noise_std": 2.0}, {"noise": "heteroscedastic", "noise_std": 2.0}):
        with pytest.raises(ValueError, match="a Bernoulli likelihood has no noise"):
            Architecture(5, **fields)


def test_the_defaults_are_those_of_the_design():
    assert Architecture(784) == Architecture(784, (400,), 20, "relu", "bernoulli", "fixed", 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Architecture(784).n_inputs = 5


# ------------------------------------------------------------------------------------------------- the three checks


def test_check_choice():
    check_choice("letter", "a", ("a", "b"))
    check_choice("letter", "a", {"a": 1})
    for value in ("c", 1, None, ["a"], np.array(["a", "b"])[:0], "A"):
        with pytest.raises(ValueError, match="letter is .*; known are 'a', 'b'"):
            check_choice("letter", value, ("a", "b"))


@pytest.mark.parametrize("value, least", [(1, 1), (0, 0), (np.int8(3), 1), (np.uint64(2**63), 1), (-2, -2)])
def test_check_count_gives_an_int(value, least):
    number = check_count("n", value, least)
    assert number == value and type(number) is int


@pytest.mark.parametrize("value, least", [(0, 1), (-1, 0), (True, 0), (1.0, 1), ("1", 1), (None, 0), (np.float64(2), 1)])
def test_check_count_refuses(value, least):
    with pytest.raises(ValueError, match=f"n is .*; it must be a whole number, {least} or more"):
        check_count("n", value, least)


@pytest.mark.parametrize(
    "value, least, above",
    [
        (0, 0.0, False),
        (5e-324, 0.0, True),
        (np.float32(0.5), 0.0, True),
        (True, 0.0, False),
        (-1.0, -1.0, False),
        (1e308, 1.0, True),
    ],
)
def test_check_number_gives_a_float(value, least, above):
    number = check_number("beta", value, least, above)
    assert number == value and type(number) is float


@pytest.mark.parametrize(
    "value, above",
    [
        (-5e-324, False),
        (0.0, True),
        (np.nan, False),
        (np.inf, False),
        (-np.inf, True),
        ("1", False),
        (None, True),
        (1j, False),
        ([], True),
    ],
)
def test_check_number_refuses(value, above):
    wanted = "above 0" if above else "at least 0"
    with pytest.raises(ValueError, match=f"beta is .*; it must be a finite number, {wanted}$"):
        check_number("beta", value, above=above)
    with pytest.raises(ValueError, match="at least 2.5$"):
        check_number("beta", 2.4, 2.5)


# ------------------------------------------------------------------------------------------------------- the inputs

BERNOULLI, GAUSSIAN = Architecture(3), Architecture(3, likelihood="gaussian")
BYTES = {  # what the bytes of all pictures are
    "black": [[0, 0, 0], [0, 0, 0]],
    "white": [[255, 255, 255]],
    "black and white": [[0, 255, 0]],
    "one that is nearly black": [[0, 0, 0], [0, 2, 0]],
    "grey": [[0, 1, 254], [1, 0, 1]],
    "all alike": [[2, 2, 2]],
}


@pytest.mark.parametrize("architecture", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("what", BYTES)
def test_bytes_stay_bytes_whatever_they_are(architecture, what):
    """Black pictures among them: only where the largest byte is 1 are they taken for numbers that were meant as 0 and 1."""
    x = np.array(BYTES[what], np.uint8)
    assert architecture.check_inputs(x) is x


@pytest.mark.parametrize("x", [[[0, 1, 0]], [[1, 1, 1]], [[0, 0, 0], [0, 0, 1]]])
def test_bytes_of_0_and_1_are_refused_and_the_same_numbers_are_not(x):
    for arch in (BERNOULLI, GAUSSIAN):
        with pytest.raises(ValueError, match="pixels is bytes of 0 and 1, .*: pass it as bool or float"):
            arch.check_inputs(np.array(x, np.uint8), "pixels")
        for dtype in (bool, np.int8, np.int64, np.uint16, np.float16, ">f8", "longdouble"):
            taken = arch.check_inputs(np.array(x, dtype))
            assert taken.dtype == np.float64 and taken.dtype.isnative and taken.tolist() == x
        for dtype in (np.float32, np.float64):
            given = np.array(x, dtype)
            assert arch.check_inputs(given) is given


@pytest.mark.parametrize(
    "x", [[[0.0, -0.0, 1.0]], np.zeros((1, 3)), np.ones((2, 3)), [[0, 1, 0]], [[5e-324, np.nextafter(1, 0), 0.5]]], ids=str
)
def test_pixels_from_0_to_1_are_taken(x):
    assert (BERNOULLI.check_inputs(x) == np.array(x)).all()


@pytest.mark.parametrize("x", [[[0, 1.00001, 0]], [[-1e-5, 0, 1]], [[2, 2, 2]], [[-1, -1, -1]], [[0, 0, 255.0]]])
def test_pixels_outside_are_refused_by_the_bernoulli_likelihood_alone(x):
    with pytest.raises(ValueError, match="pixels goes from .* to .*; the Bernoulli likelihood wants pixels in"):
        BERNOULLI.check_inputs(x, "pixels")
    assert (GAUSSIAN.check_inputs(x) == np.array(x)).all()


@pytest.mark.parametrize(
    "x", [[[0, 1 + 2e-16, 0.5]], [[-1e-17, 0, 1]], [[-5e-324, 0, 1]], np.array([[-1e-8, 1 + 1.2e-7, 0.3]], np.float32)], ids=str
)
def test_pixels_that_rounding_put_outside_are_clipped_and_it_is_said_once(x, caplog):
    architecture._say_clipped_once.cache_clear()
    given = np.array(x)
    for _ in range(2):
        taken = BERNOULLI.check_inputs(x)
        assert taken.dtype == given.dtype and taken.tolist() == given.clip(0, 1).tolist()
    assert (np.array(x) == given).all(), "the caller's own array stays as it is"
    assert [record.message for record in caplog.records] == [
        "pixels that rounding has put just outside [0, 1] are clipped to it"
    ]
    assert (GAUSSIAN.check_inputs(x) == given).all() and len(caplog.records) == 1


@pytest.mark.parametrize(
    "low, high, dtype, said",
    [
        (0, 1.00001, float, "from 0 to 1.00001;"),
        (-1.0000001e-6, 1, float, "from -1.0000001e-06 to 1;"),
        (-2e-6, 1, float, "from -2e-06 to 1;"),
        (0, 255, int, "from 0 to 255;"),
        (0, 1.0000025, np.float32, "from 0 to 1.0000025;"),
        (0, 1.0000010000000004, float, "from 0 to 1.0000010000000004;"),
    ],
)
def test_a_refusal_tells_numbers_with_the_digits_that_matter(low, high, dtype, said):
    with pytest.raises(ValueError, match=f"pixels goes {said}"):
        BERNOULLI.check_inputs(np.array([[low, high, 0]], dtype), "pixels")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_inputs_that_are_not_finite_are_refused(value, dtype):
    for place in ((0, 0), (1, 1), (1, 2)):
        x = np.zeros((2, 3), dtype)
        x[place] = value
        for arch in (BERNOULLI, GAUSSIAN):
            with pytest.raises(ValueError, match="^pixels holds NaN or infinite values; every input must be finite$"):
                arch.check_inputs(x, "pixels")


@pytest.mark.parametrize(
    "x, error, sentence",
    [
        (np.zeros(3), ValueError, r"pixels has shape \(3,\); wanted \(rows, 3\) with at least one row"),
        (np.zeros((2, 4)), ValueError, r"pixels has shape \(2, 4\)"),
        (np.zeros((0, 3)), ValueError, r"pixels has shape \(0, 3\)"),
        (np.zeros((0, 3), np.uint8), ValueError, r"pixels has shape \(0, 3\)"),
        (np.zeros((1, 1, 3)), ValueError, r"pixels has shape \(1, 1, 3\)"),
        (np.zeros((2, 3, 4)), ValueError, r"pixels has shape \(2, 3, 4\)"),
        (5.0, ValueError, r"pixels has shape \(\)"),
        ([["a", "b", "c"]], TypeError, "pixels has dtype <U1; it must hold real numbers"),
        (np.zeros((1, 3), complex), TypeError, "pixels has dtype complex128"),
        (np.zeros((1, 3), object), TypeError, "pixels has dtype object"),
        (np.zeros((1, 3), "M8[s]"), TypeError, "pixels has dtype datetime64"),
    ],
)
def test_what_is_no_rows_of_numbers_is_refused(x, error, sentence):
    with pytest.raises(error, match=sentence):
        GAUSSIAN.check_inputs(x, "pixels")


def test_inputs_are_copied_only_where_they_must_be():
    x = np.random.default_rng(0).uniform(size=(4, 3))
    assert BERNOULLI.check_inputs(x) is x
    for given in (np.asfortranarray(x), x[::2], x.tolist(), x.astype(">f8")):
        taken = BERNOULLI.check_inputs(given)
        assert taken.flags.c_contiguous and taken.dtype.isnative and (taken == np.array(given)).all()


def test_equal_architectures_are_one():
    assert Architecture(5, [4]) == Architecture(5, (4,)) and hash(Architecture(5, [4])) == hash(Architecture(5, (4,)))
