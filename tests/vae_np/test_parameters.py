import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest

from vae_np import Architecture, Parameters

ARCH = Architecture(6, (5, 4), 3, "tanh", "gaussian", "heteroscedastic")


def test_views_and_buffer_are_one():
    p = Parameters.initialize(ARCH)
    assert p.flat.size == sum(array.size for array in p.values())
    assert (np.concatenate([array.ravel() for array in p.values()]) == p.flat).all()
    p["mu.W"][1, 2] = 7
    assert 7 in p.flat
    p.flat[...] = 3
    assert (p["output_logvar.b"] == 3).all() and list(p) == list(ARCH.shapes)


@pytest.mark.parametrize(
    "duplicate", [Parameters.copy, copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_view_their_own_buffer(duplicate):
    p = Parameters.initialize(ARCH)
    q = duplicate(p)
    assert q.architecture == p.architecture and (q.flat == p.flat).all()
    q.flat[...] = 0
    assert not q["mu.W"].any()
    assert p["mu.W"].any() or duplicate is copy.copy


@pytest.mark.parametrize("scheme", ["glorot", "he"])
def test_initial_variances(scheme):
    p = Parameters.initialize(Architecture(300, (200, 100), 50), seed=3, scheme=scheme)
    for name, W in p.items():
        if name.endswith(".b"):
            assert not W.any()
        else:
            inputs, outputs = W.shape
            hidden = 2 / (inputs + outputs) if scheme == "glorot" else 2 / inputs
            variance = hidden if name.startswith(("encoder", "decoder")) else 1 / (3 * inputs)
            assert W.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / W.size))
            assert abs(W.mean()) < 5 * np.sqrt(variance / W.size)


def test_initialization_repeats_differs_by_layer_and_is_one_in_both_dtypes():
    p, again, other = (Parameters.initialize(Architecture(6, (5,), 3), seed=seed) for seed in (1, 1, 2))
    assert (p.flat == again.flat).all() and (p["mu.W"] != other["mu.W"]).all()
    assert (p["mu.W"] != p["logvar.W"]).all(), "the two heads start alike"
    assert (
        Parameters.initialize(Architecture(6, (5,), 3), seed=1, dtype="float32").flat == p.flat.astype("float32")
    ).all()


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


def test_wrong_dtype_and_size_are_refused():
    with pytest.raises(ValueError, match="dtype is 'float16'; known are 'float32', 'float64'"):
        Parameters.initialize(ARCH, dtype="float16")
    with pytest.raises(ValueError, match="scheme is 'xavier'; known are 'glorot', 'he'"):
        Parameters.initialize(ARCH, scheme="xavier")
    with pytest.raises(ValueError, match="flat has dtype float16; known are 'float32', 'float64'"):
        Parameters(ARCH, np.zeros(3, "float16"))
    with pytest.raises(ValueError, match=r"flat has shape \(3,\); this architecture has \d+ parameters"):
        Parameters(ARCH, np.zeros(3))
