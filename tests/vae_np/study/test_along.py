"""The course of a training: each place of the slider shows what its parameters make of the same examples."""

import re

import numpy as np
import pytest

from vae_np import Architecture, decode, encode, loss, loss_and_gradients, train
from vae_np.study import along
from vae_np.study.along import course

RNG = np.random.default_rng(0)
X, EPS = RNG.uniform(size=(30, 6)), RNG.normal(size=(2, 3, 3))
LABELS = np.arange(30) % 4


def made(n_latent=3, objective="elbo", labels=LABELS):
    run = train(
        Architecture(6, (5,), n_latent), X, epochs=5, batch_size=10, l2=0.1, objective=objective, snapshots=3, backend="numpy"
    )
    snapshots = run.snapshots | {5: run.parameters}
    eps = EPS[:, :, :n_latent]
    return snapshots, course(snapshots, X[:3], eps, 0.7, 0.1, objective, X, labels, "rows"), eps


def test_every_moment_is_that_of_its_parameters():
    snapshots, of, eps = made()
    assert [moment.epoch for moment in of.moments] == [0, 1, 4, 5] and of.x.shape == (3, 6)
    for moment in of.moments:
        p = snapshots[moment.epoch].astype("float64")
        mu, _ = encode(p, X[:3])
        np.testing.assert_allclose(moment.means, decode(p, mu), rtol=1e-12)
        np.testing.assert_allclose(moment.latents, encode(p, X)[0][:, of.shown], rtol=1e-12)
        assert moment.loss == pytest.approx(loss(p, X[:3], eps, 0.7, 0.1).total, rel=1e-12)
        assert moment.through_kl == pytest.approx(0.7 / 3 * np.linalg.norm(mu), rel=1e-12)
    p = snapshots[5].astype("float64")
    g = loss_and_gradients(p, X[:1], eps[:, :1], 0.0)[1]
    single = course({5: p}, X[:1], eps[:, :1], 0.7, 0.0, "elbo", X, None, "rows").moments[0]
    assert single.through_z == pytest.approx(np.linalg.norm(g["mu.b"]), rel=1e-12)
    spread = encode(snapshots[5], X)[0].std(axis=0)
    assert set(of.shown) == set(np.argsort(spread)[1:])


def test_the_slider_has_a_place_for_each_and_shows_the_last_first():
    _, of, _ = made()
    text = along.along(of, (2, 3))
    assert (
        '<input type="range" min="0" max="3" value="3" data-count="4" aria-valuetext="5"><output data-values="0|1|4|5">5</output>'
        in text
    )
    for case in range(4):
        parts = re.findall(rf'<div data-case="{case}"( hidden)?>', text)
        assert parts == [" hidden" * (case < 3)] * 2
    shown = dict(re.findall(r"<dt>([^<]*)</dt><dd data-values=\"([^\"]*)\"", text))
    losses = [float(number) for number in shown["loss, nats"].split("|")]
    np.testing.assert_allclose(losses, [moment.loss for moment in of.moments], rtol=1e-3)
    assert text.count('class="pictures"') == 5 and "times beta / B" in text


def test_a_point_stands_for_each_row_in_the_colour_of_its_label():
    _, of, _ = made()
    svg = along._latents(of, of.moments[-1])
    colours = along._colours(of)
    assert list(colours) == [0, 1, 2, 3] and len(set(colours.values())) == 4
    every = [moment.latents for moment in of.moments]
    low, high = np.min(every, axis=(0, 1)), np.max(every, axis=(0, 1))
    for label, colour in colours.items():
        points = re.findall(r"M(\d+) (\d+)h0", re.search(rf'd="([^"]*)" stroke="{re.escape(colour)}"', svg)[1])
        wanted = of.moments[-1].latents[of.labels == label]
        x, y = np.array(points, float).T
        for place, number, lower, upper, sign in zip((x, y), wanted.T, low, high, (1, -1)):
            slope, _ = np.polyfit(number, place, 1)
            assert 0 < sign * slope * (upper - lower) <= along.SIDE and np.corrcoef(number, place)[0, 1] * sign > 0.999
    assert "<desc>30 points: latent" in svg and svg.count("h0") == 30


def test_without_labels_images_or_a_second_latent_the_rest_is_shown():
    _, of, _ = made(labels=None)
    text = along.along(of, None)
    assert along._colours(of) == {} and "legend" not in text and 'class="pictures"' not in text and "h0" in text
    many = of._replace(labels=np.arange(30))
    assert along._colours(many) == {}
    _, of, _ = made(n_latent=1, objective="iwae")
    text = along.along(of, None)
    assert 'class="latents"' not in text and "the path from the KL itself is 0" in text
    assert {moment.through_kl for moment in of.moments} == {0.0}
