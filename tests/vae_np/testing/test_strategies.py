"""Problems for a model of one's own have its containers and shapes, and a failing example can be repeated by its call."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings

from vae_np.testing import ProblemOfOwn, check_gradients, random_like, random_problem_of
from vae_np.testing.strategies import arrays_like, problems_of
from vae_np.testing.trees import leaves


@dataclasses.dataclass
class Layer:
    W: Any
    b: Any
    name: str = "layer"


TEMPLATE = {
    "layers": [Layer(np.zeros((3, 2), np.float32), np.zeros(2)), Layer(np.ones((2, 5)), None)],
    "scale": 1.0,
    "steps": 7,
}


def test_a_container_keeps_its_shapes_and_all_that_is_no_array_and_its_numbers_are_random():
    made, again, other = random_like(TEMPLATE, seed=1), random_like(TEMPLATE, seed=1), random_like(TEMPLATE, seed=2)
    arrays, template = leaves(made), leaves(TEMPLATE)
    assert list(arrays) == list(template) and type(made["layers"][0]) is Layer
    assert (made["steps"], made["layers"][0].name, made["layers"][1].b) == (7, "layer", None)
    for path in ("layers[0].W", "layers[0].b", "layers[1].W", "scale"):
        array, same, different = (np.asarray(leaves(tree)[path]) for tree in (made, again, other))
        assert array.shape == np.shape(template[path]) and array.dtype == np.float64
        assert (array == same).all() and (array != different).all()
    assert (TEMPLATE["layers"][1].W == 1).all() and TEMPLATE["scale"] == 1.0


def test_the_scale_is_the_standard_deviation():
    drawn = random_like({"W": np.zeros(10_000)}, scale=3.0)["W"]
    assert abs(drawn.std() - 3) < 0.1 and abs(drawn.mean()) < 0.15
    assert (drawn == 3 * random_like({"W": np.zeros(10_000)})["W"]).all()


@given(params=arrays_like(TEMPLATE, scale=0.5))
def test_arrays_like_draws_containers_that_are_checked(params):
    def fn(p):
        W = p["layers"][0].W
        return np.sum(W**3), {"layers": [{"W": 3 * W**2}]}

    assert max(worst.error for worst in check_gradients(fn, params, only="layers[0].W")) < 1e-12


@settings(max_examples=30)
@given(problem=problems_of(TEMPLATE, n_inputs=6, n_latent=2, max_examples=3))
def test_a_problem_has_the_sizes_that_were_given(problem):
    params, x, eps = problem
    assert isinstance(problem, ProblemOfOwn) and leaves(params).keys() == leaves(TEMPLATE).keys()
    assert x.shape == (len(x), 6) and eps.shape == (len(x), 2) and 1 <= len(x) <= 3
    assert (x >= 0).all() and (x <= 1).all()


def test_every_size_and_every_kind_is_drawn():
    def drawn(holds, **settings):
        return find(problems_of({"W": np.zeros(2)}, 4, 3, **settings), lambda problem: holds(problem.x, problem.eps))

    assert drawn(lambda x, eps: len(x) == 5, max_examples=5).x.shape == (5, 4)
    assert drawn(lambda x, eps: len(eps) == 2, max_examples=2, max_samples=2).eps.shape == (2, 1, 3)
    drawn(lambda x, eps: np.isin(x, (0, 1)).all())
    drawn(lambda x, eps: not np.isin(x, (0, 1)).any())
    drawn(lambda x, eps: (x < 0).any(), likelihood="gaussian")
    drawn(lambda x, eps: eps.shape == (1, 1, 3), max_samples=1)


def test_a_failing_example_is_printed_as_the_call_that_makes_it():
    @settings(max_examples=20, database=None)
    @given(problem=problems_of({"W": np.zeros(2)}, n_inputs=3, n_latent=2))
    def fails(problem):
        assert len(problem.x) < 2

    with pytest.raises(AssertionError) as caught:
        fails()
    told = " ".join(" ".join(caught.value.__notes__).split())
    call = "problem=random_problem_of( {'W': array([0., 0.])}, n_inputs=3, n_latent=2, n_examples=2, n_samples=None,"
    assert call in told
    made = random_problem_of({"W": np.zeros(2)}, n_inputs=3, n_latent=2, n_examples=2)
    assert made.x.shape == (2, 3) and made.eps.shape == (2, 2)
