import pytest

from vae_np import Architecture


def test_names_and_shapes_of_the_parameters():
    assert Architecture(784, (400, 200), 20).shapes == {
        "encoder.0.W": (784, 400), "encoder.0.b": (400,), "encoder.1.W": (400, 200), "encoder.1.b": (200,),
        "mu.W": (200, 20), "mu.b": (20,), "logvar.W": (200, 20), "logvar.b": (20,),
        "decoder.0.W": (20, 200), "decoder.0.b": (200,), "decoder.1.W": (200, 400), "decoder.1.b": (400,),
        "output.W": (400, 784), "output.b": (784,),
    }  # fmt: skip


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
        ({"activation": "gelu"}, "activation is 'gelu'; known are 'relu', 'tanh', 'softplus'"),
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


def test_equal_architectures_are_one():
    assert Architecture(5, [4]) == Architecture(5, (4,)) and hash(Architecture(5, [4])) == hash(Architecture(5, (4,)))
