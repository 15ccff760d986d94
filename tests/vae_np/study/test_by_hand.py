"""One latent by hand: each equation, with the numbers that are shown for a case, gives the number that the program computed."""

import re

import numpy as np
import pytest

from tests.vae_np.study import browser
from tests.vae_np.study.damages import damages
from tests.vae_np.study.test_page import in_chromium
from tests.vae_np.study.test_trace import PROBLEM, PROBLEMS
from vae_np.study import by_hand, page, trace
from vae_np.study.evaluation import evaluate
from vae_np.study.typesetting import plain


@pytest.mark.parametrize(
    "problem", PROBLEMS[::7], ids=lambda q: f"{q.p.architecture.likelihood}-{q.p.architecture.noise}-{q.objective}"
)
def test_the_numbers_that_are_put_in_give_the_result(problem):
    made, found = trace(*problem, elements=1), []
    for row in by_hand.rows(made):
        found.append(made[row.line].called)
        assert row.result.shape == (made.a.mu.size,)
        assert row.numbers is not None or made[row.line].called not in (
            "likelihood_nll",
            "divergence",
        )  # they are shares of sums
        if row.numbers is not None:
            np.testing.assert_allclose(
                np.broadcast_to(evaluate(row.numbers, {}), row.result.shape), row.result, rtol=1e-12, atol=1e-14
            )
            np.testing.assert_allclose(by_hand._value(by_hand._simplified(row.numbers)), evaluate(row.numbers, {}), rtol=1e-12)
    assert set(found) - {"output_logvar_layer_backward_add"} == set(by_hand.WORDS) | {"affine_backward"}


@pytest.mark.parametrize("problem", PROBLEMS[::7], ids=lambda q: f"{q.p.architecture.likelihood}-{q.objective}")
def test_the_results_are_those_of_the_pass(problem):
    made = trace(*problem, elements=1)
    _, B, Z = made.a.eps.shape
    ends = {}
    for row in by_hand.rows(made):
        ends[row.equation[1][1]] = row.result.reshape(B, Z)
    last = {array.name: array.value for line in made for array in line.writes}
    np.testing.assert_array_equal(ends["z"], made.a.z[0])
    np.testing.assert_array_equal(ends["loss"], np.broadcast_to(made.a.loss[:, None], (B, Z)))
    for name in ("dmu", "dlogvar"):
        np.testing.assert_array_equal(ends[name], last[name])
    np.testing.assert_array_equal(ends["dz"], last["dz"][0])
    largest = np.abs(last["doutput"][0]).max(axis=-1)
    np.testing.assert_array_equal(np.abs(ends["doutput"]), np.broadcast_to(largest[:, None], (B, Z)))


def test_the_shares_of_the_latents_are_the_kl():
    made = trace(*PROBLEM)
    (share,) = (row.result for row in by_hand.rows(made) if made[row.line].called == "divergence")
    np.testing.assert_allclose(share.reshape(3, 3).sum(axis=1), made.a.kl[0], rtol=1e-12)


def test_a_mistake_in_a_formula_would_be_seen():
    made = trace(*PROBLEM)
    for row in by_hand.rows(made):
        if made[row.line].called in ("reparameterize", "divergence_backward", "reparameterize_backward_add"):
            wrong = list(damages(row.numbers))
            assert wrong
            for tree in wrong:
                assert not np.allclose(evaluate(tree, {}), row.result, rtol=1e-6), plain(tree)


def test_a_sum_may_break_between_its_terms():
    long = [
        line
        for line in re.findall(r'<div class="equation".*?</div>', by_hand.by_hand(trace(*PROBLEM)))
        if line.count("<math") > 3
    ]
    assert long
    for line in long:
        assert line.count("<wbr>") == line.count("<math") - 1
        assert len(set(re.findall(r"--letters: (\d+)", line))) == 1


def test_a_long_sum_is_not_written_out_and_a_short_one_is():
    made = trace(*PROBLEM)
    products = {plain(row.numbers).count("×") for row in by_hand.rows(made) if row.equation[1][1] == "dz" and row.numbers}
    assert products == {4}  # the hidden layer that reads z has 4 units
    few = PROBLEM._replace(eps=np.random.default_rng(0).normal(size=(9, 3, 3)))
    assert all(row.numbers is None for row in by_hand.rows(trace(*few)) if row.equation[1][1] == "loss")


@in_chromium
def test_all_numbers_follow_the_chosen_example_and_latent():
    made = trace(*PROBLEM)
    shown = browser.run(
        page.page(made, "noise"),
        """
        const group = document.querySelector("#hand .group"), [example, latent] = group.querySelectorAll("select");
        const read = () => [...group.querySelectorAll(".equation")].map((at) => at.textContent.split("=").at(-1).trim());
        const found = [];
        for (const [b, k] of [[0, 0], [2, 1]]) {
          example.value = b; latent.value = k;
          latent.dispatchEvent(new Event("input", { bubbles: true }));
          found.push(read());
        }
        return found;
        """,
    )
    last = {array.name: array.value for line in made for array in line.writes}
    for (b, k), texts in zip([(0, 0), (2, 1)], shown):
        numbers = [float(text.replace("\u2212", "-")) for text in texts if re.fullmatch(r"[\u2212\d.e-]+", text)]
        for name in ("dmu", "dlogvar"):
            assert any(number == pytest.approx(last[name][b, k], rel=0.006) for number in numbers), name
