"""`vae-np check`: right gradients pass, and a planted mistake is named."""

import re

import numpy as np
import pytest

from tests.vae_np.cli.commands import command, done
from vae_np import elbo, kernels
from vae_np.architecture import Architecture
from vae_np.cli import check
from vae_np.console import make_console
from vae_np.kernels import reference
from vae_np.testing.problems import DECODERS


@pytest.fixture
def plant(monkeypatch):
    """plant(name, function): put an operation in the place of the reference's, for this test."""
    # The bound text is kept from one use to the next, and would go on calling the operation it was bound to.
    elbo._bind.cache_clear()

    def put(name, function):
        monkeypatch.setattr(reference, name, function)

    yield put
    monkeypatch.undo()
    elbo._bind.cache_clear()


def wrong_parameters(out):
    """The lines about gradients that are off, as (model, parameter)."""
    found = re.findall(r"([A-Z][\w ,]+?): ([\w.]+)\[[\d, ]*\] is", " ".join(out.split()))
    return set(found)


def test_check_finds_every_gradient_right_on_every_backend_that_runs_here():
    out = done("check")
    assert not wrong_parameters(out) and "every gradient is right" in out
    for name, status in kernels.available().items():
        assert bool(re.search(rf", {name}\b", out)) == status.ok
    for choice in DECODERS:
        for name in Architecture(6, (5, 4), 3, **choice).shapes:
            assert re.search(rf"^\s*{re.escape(name)}\s", out, re.MULTILINE), f"{name} is not in the table"


def test_check_compares_another_estimator_with_its_surrogate():
    out = done("check", "--backend", "numpy", "--estimator", "dreg")
    assert "every gradient is right" in out and "iwae" in out and "elbo" not in out


def test_check_names_the_encoder_if_an_estimator_is_another_one(plant):
    plant("vimco_backward", reference.iwae_score_backward)  # without the baseline
    answer = command("check", "--backend", "numpy", "--estimator", "vimco")
    assert answer.code == 1
    assert {name.partition(".")[0] for _, name in wrong_parameters(answer.out)} == {"encoder", "mu", "logvar"}


@pytest.mark.slow
def test_check_names_the_encoder_if_the_derivative_of_relu_is_wrong(plant):
    def leaky(dh, y, h):
        dh *= np.where(h > 0, 1, 0.01)
        return dh

    plant("relu_backward", leaky)
    answer = command("check", "--backend", "numpy")
    assert answer.code == 1
    found = wrong_parameters(answer.out)
    assert {"encoder.0.W", "encoder.0.b", "decoder.0.W"} <= {name for _, name in found}
    assert all("relu" in model for model, _ in found), "the other activations' derivatives are right"


def test_check_names_logvar_alone_and_what_lies_below_it_if_the_derivative_of_the_kl_is_off_by_a_thousandth(plant):
    right = reference.gaussian_kl_backward

    def wrong(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
        right(dkl, mu, logvar, eps, z, dz, dmu, dlogvar)
        dlogvar *= 1.001
        return dz, dmu, dlogvar

    plant("gaussian_kl_backward", wrong)
    answer = command("check", "--backend", "numpy")
    assert answer.code == 1 and "every gradient is right" not in answer.out
    names = {name for _, name in wrong_parameters(answer.out)}
    assert {"logvar.W", "logvar.b"} <= names
    assert all(name.startswith(("logvar.", "encoder.")) for name in names), "mu and the decoder have no part in it"


@pytest.mark.slow
def test_columns_that_have_no_room_beside_each_other_stand_in_a_table_below(monkeypatch):
    wide = done("check", "--backend", "numpy")
    monkeypatch.setattr(check, "make_console", lambda: make_console(width=50))
    narrow = done("check", "--backend", "numpy")
    numbers = [sorted(re.findall(r"\d+e-\d+", out)) for out in (wide, narrow)]
    assert numbers[0] == numbers[1] and narrow.count("output.b ") > wide.count("output.b ")
    assert max(len(line) for line in narrow.splitlines() if "e-" in line and "right" not in line) <= 50
