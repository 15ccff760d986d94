import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from vae_np import Architecture, Parameters
from vae_np.parameters import n_parameters

ARCH = Architecture(6, (5, 4), 3, "tanh", "gaussian", "heteroscedastic")


def test_views_and_buffer_are_one():
    p = Parameters.initialize(ARCH)
    assert p.flat.size == sum(array.size for array in p.values())
    assert (np.concatenate([array.ravel() for array in p.values()]) == p.flat).all()
    p["mu.W"][1, 2] = 7
    assert 7 in p.flat
    p.flat[...] = 3
    assert (p["output_logvar.b"] == 3).all() and list(p) == list(ARCH.shapes)


def test_layers_are_the_views_under_the_names_of_the_text():
    p = Parameters.initialize(ARCH)
    layers = p.layers
    pairs = dict(zip(("encoder.0", "encoder.1"), layers.encoder)) | dict(zip(("decoder.0", "decoder.1"), layers.decoder))
    pairs |= {"mu": layers.mu, "logvar": layers.logvar, "output": layers.output, "output_logvar": layers.output_logvar}
    assert {f"{name}.{part}" for name in pairs for part in "Wb"} == set(p)
    for name, (W, b) in pairs.items():
        assert W is p[f"{name}.W"] and b is p[f"{name}.b"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_noise_that_depends_on_nothing_is_a_layer_without_weights(dtype):
    fixed = Parameters.initialize(
        Architecture(6, (), 3, likelihood="gaussian", noise_std=0.5), dtype=dtype
    ).layers.output_logvar
    assert fixed.b == np.array(2 * np.log(0.5), dtype) and fixed.b.dtype == dtype and fixed.W.shape == (0, 1)
    assert Parameters.initialize(Architecture(6), dtype=dtype).layers.output_logvar.b == 0
    p = Parameters.initialize(Architecture(6, (), 3, likelihood="gaussian", noise="shared"), dtype=dtype)
    assert p.layers.output_logvar.b is p["noise.logvar"] and p.layers.output_logvar.W.shape == (0, 1)
    assert len(p.layers.encoder) == len(p.layers.decoder) == 0


@pytest.mark.parametrize("duplicate", [Parameters.copy, copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_view_their_own_buffer(duplicate):
    p = Parameters.initialize(ARCH)
    q = duplicate(p)
    assert q.architecture == p.architecture and (q.flat == p.flat).all()
    q.flat[...] = 0
    assert not q["mu.W"].any()
    assert p["mu.W"].any() or duplicate is copy.copy


@pytest.mark.parametrize("init", ["glorot", "he"])
def test_initial_variances(init):
    p = Parameters.initialize(Architecture(300, (200, 100), 50), seed=3, init=init)
    for name, W in p.items():
        if name.endswith(".b"):
            assert not W.any()
        else:
            inputs, outputs = W.shape
            hidden = 2 / (inputs + outputs) if init == "glorot" else 2 / inputs
            variance = hidden if name.startswith(("encoder", "decoder")) else 1 / (3 * inputs)
            assert W.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / W.size))
            assert abs(W.mean()) < 5 * np.sqrt(variance / W.size)


def test_initialization_repeats_differs_by_layer_and_is_one_in_both_dtypes():
    p, again, other = (Parameters.initialize(Architecture(6, (5,), 3), seed=seed) for seed in (1, 1, 2))
    assert (p.flat == again.flat).all() and (p["mu.W"] != other["mu.W"]).all()
    assert (p["mu.W"] != p["logvar.W"]).all(), "the two heads start alike"
    assert (Parameters.initialize(Architecture(6, (5,), 3), seed=1, dtype="float32").flat == p.flat.astype("float32")).all()
    unsaid, said = Parameters.initialize(ARCH), Parameters.initialize(ARCH, 0, "float64", "glorot")
    assert (unsaid.flat == said.flat).all() and unsaid.flat.dtype == "float64"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path, dtype):
    p = Parameters.initialize(ARCH, seed=4, dtype=dtype)
    p.save(tmp_path / "p.npz")
    q = Parameters.load(tmp_path / "p.npz")
    assert q.architecture == ARCH and q.flat.dtype == dtype and (q.flat == p.flat).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "p.npz"]


def test_a_file_is_plain_npz(tmp_path):
    p = Parameters.initialize(ARCH)
    p.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert set(file) == {*ARCH.shapes, "architecture"}
        assert json.loads(str(file["architecture"])) == json.loads(json.dumps(dataclasses.asdict(ARCH)))


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Parameters.load(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        Parameters.load(tmp_path)


def test_wrong_dtype_and_size_are_refused():
    with pytest.raises(ValueError, match="dtype is 'float16'; known are 'float32', 'float64'"):
        Parameters.initialize(ARCH, dtype="float16")
    with pytest.raises(ValueError, match="init is 'xavier'; known are 'glorot', 'he'"):
        Parameters.initialize(ARCH, init="xavier")
    with pytest.raises(ValueError, match="flat has dtype float16; known are 'float32', 'float64'"):
        Parameters(ARCH, np.zeros(3, "float16"))
    n = n_parameters(ARCH)
    for shape in (3, n - 1, n + 1, (n, 1), (1, n), ()):
        with pytest.raises(ValueError, match=rf"flat has shape .*; this architecture has {n} parameters"):
            Parameters(ARCH, np.zeros(shape))
    for dtype in (">f8", ">f4", int, complex):
        with pytest.raises(ValueError, match="flat has dtype .*; known are 'float32', 'float64'"):
            Parameters(ARCH, np.zeros(n, dtype))


def test_a_seed_that_is_none_is_refused():
    for seed in (-1, 1.5, True, None, 2**64):
        with pytest.raises(ValueError, match="seed is .*; it must be a whole number from 0 to"):
            Parameters.initialize(ARCH, seed=seed)


def test_numbers_move_and_change_their_dtype_into_a_buffer_of_their_own():
    p = Parameters.initialize(ARCH, dtype="float32")
    for q in (p.astype("float32"), p.astype("float64"), p.moved(np.array)):
        assert q.architecture == ARCH and (q.flat == p.flat).all() and not np.shares_memory(q.flat, p.flat)
    assert p.astype("float64").flat.dtype == "float64" and p.moved(np.asarray) is p
    assert not Parameters.zeros(ARCH).flat.any() and Parameters.zeros(ARCH).flat.dtype == "float64"
    assert len(p) == len(ARCH.shapes) and repr(p) == f"Parameters({ARCH}, {n_parameters(ARCH)} x float32)"
