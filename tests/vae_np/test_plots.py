"""The pictures of a run: which ones are drawn, and that they show what they say."""

import pathlib

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from vae_np import plots
from vae_np.architecture import Architecture
from vae_np.closed_form import Curve
from vae_np.data import Dataset
from vae_np.elbo import decode, encode
from vae_np.gradient_moments import BIASES, Sampled
from vae_np.parameters import Parameters

# matplotlib says what it cannot draw in warnings, which a user of the command would see.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::DeprecationWarning")


def model(n_latent=2, n_inputs=12, likelihood="bernoulli"):
    p = Parameters.initialize(Architecture(n_inputs, (7,), n_latent, likelihood=likelihood), seed=1)
    p.flat += np.random.default_rng(0).normal(size=p.flat.shape) / 2
    return p


def rows(n=30, n_inputs=12):
    return np.random.default_rng(1).random((n, n_inputs))


def epochs(n, valid=True):
    """The history of n epochs, the losses falling, those of valid above those of train."""

    def losses(part, epoch):
        above = 0.3 if part == "valid" else 0.0
        terms = {"total": 9 + 5 / epoch, "reconstruction": 8 + 4 / epoch, "kl": 1 + 1 / epoch, "l2": 0.0}
        return {f"{part}_{term}": value + above for term, value in terms.items()}

    return [
        {"epoch": epoch, "beta": 1.0, **losses("train", epoch), **(losses("valid", epoch) if valid else {})}
        for epoch in range(1, n + 1)
    ]


def rendered(figure):
    """What the figure looks like: (height, width, 3) in 0..1."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def shows(figure, colour):
    return bool((np.abs(rendered(figure) - to_rgb(colour)).max(axis=-1) < 0.05).any())


def pictured(figure):
    """The array that the figure's only image shows."""
    (axes,) = figure.axes
    (image,) = axes.images
    return np.ma.filled(image.get_array(), np.nan)


# ----------------------------------------------------------------------------------------------------------- draw_run

OF_IMAGES, OF_A_PLANE = {"reconstructions.png", "samples.png"}, {"latent.png"}


@pytest.mark.parametrize("labels", [None, np.arange(30) % 4], ids=["no labels", "labels"])
@pytest.mark.parametrize("shape", [None, (3, 4)], ids=["rows", "images"])
@pytest.mark.parametrize("n_latent", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_is_drawn_in_the_pictures_it_allows(tmp_path, n_latent, shape, labels):
    dataset = Dataset(rows(), rows(), labels, labels, shape)
    paths = plots.draw_run(model(n_latent), epochs(4), dataset, str(tmp_path))
    wanted = {"losses.png"}
    if shape:
        wanted |= OF_IMAGES | ({"manifold.png"} if n_latent == 2 else set())
    if n_latent == 2:
        wanted |= OF_A_PLANE
    assert sorted(paths) == sorted(str(tmp_path / name) for name in wanted)
    assert {path.name for path in tmp_path.iterdir()} == wanted, "no file is left half written"
    for path in paths:
        assert pathlib.Path(path).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        image = matplotlib.image.imread(path)
        assert 200 <= image.shape[0] <= 2000 and 400 <= image.shape[1] <= 2500
        assert image[..., :3].std() > 0.02, f"{path} is blank"


def test_the_same_run_and_seed_give_the_same_files_and_another_seed_other_samples(tmp_path):
    dataset = Dataset(rows(), rows(), None, None, (3, 4))
    drawn = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        plots.draw_run(model(3), epochs(2), dataset, tmp_path / name, seed)
        drawn[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert drawn["a"] == drawn["b"]
    assert drawn["a"]["samples.png"] != drawn["c"]["samples.png"]
    assert drawn["a"]["losses.png"] == drawn["c"]["losses.png"], "nothing is random in the losses"


def test_drawing_uses_no_window_and_leaves_no_figure_behind(tmp_path):
    import matplotlib.pyplot

    before = matplotlib.get_backend(), matplotlib.pyplot.get_fignums()
    plots.draw_run(model(), epochs(2), Dataset(rows(), rows(), None, None, (3, 4)), tmp_path)
    assert (matplotlib.get_backend(), matplotlib.pyplot.get_fignums()) == before


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(FigureCanvasAgg, "print_png", stop)
    with pytest.raises(KeyboardInterrupt):
        plots.write(plots.losses(epochs(2)), str(tmp_path / "losses.png"))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("n", [1, 2, 40])
@pytest.mark.parametrize("valid", [True, False], ids=["with valid", "train alone"])
def test_every_loss_of_the_history_can_be_seen(n, valid):
    figure = plots.losses(epochs(n, valid))
    for axes in figure.axes:
        axes.get_legend().remove()  # it shows both colours, whether or not there is a line
    assert shows(figure, plots.TRAIN), "one epoch is a point, and a line through one point is nothing"
    assert shows(figure, plots.VALID) == valid


def test_the_losses_are_those_of_the_history():
    history = epochs(5)
    for axes, term in zip(plots.losses(history).axes, ("total", "reconstruction", "kl")):
        for line, part in zip(axes.lines, ("train", "valid")):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
            np.testing.assert_array_equal(line.get_ydata(), [row[f"{part}_{term}"] for row in history])


@pytest.mark.parametrize("scale", [0, 1e-6, 1e6])
def test_losses_of_any_size_are_in_sight(scale):
    history = [{name: value if name == "epoch" else value * scale for name, value in row.items()} for row in epochs(3)]
    for axes in plots.losses(history).axes:
        low, high = axes.get_ylim()
        for line in axes.lines:
            assert low < np.min(line.get_ydata()) and np.max(line.get_ydata()) < high


# ------------------------------------------------------------------------------------------------------------- images


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 30), height=st.integers(1, 6), width=st.integers(1, 6))
def test_any_number_of_samples_is_shown_each_once_in_order_and_no_other(n, height, width):
    x = np.random.default_rng(n).random((n, height * width))
    image = pictured(plots.samples(x, (height, width)))
    columns = (image.shape[1] + 1) // (width + 1)
    n_rows = (image.shape[0] + 1) // (height + 1)
    assert n <= columns * n_rows < n + columns, "there is room for each, and no empty row"
    assert abs(columns - n_rows) <= 1, "the grid is nearly square"
    for i in range(columns * n_rows):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        tile = image[top : top + height, left : left + width]
        np.testing.assert_array_equal(tile, x[i].reshape(height, width) if i < n else np.full((height, width), np.nan))


@pytest.mark.parametrize("n", [1, 2, 7, 12, 143])
def test_samples_whose_number_is_no_square_are_written(tmp_path, n):
    path = plots.write(plots.samples(rows(n), (3, 4)), str(tmp_path / "samples.png"))
    image = matplotlib.image.imread(path)[..., :3]
    assert 400 <= min(image.shape[:2]) and image.std() > 0.02


def test_images_of_one_grey_value_are_drawn():
    assert rendered(plots.samples(np.full((5, 12), 0.25), (3, 4))).std() > 0


@pytest.mark.parametrize("n", [1, 5, 16, 40])
@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_reconstructions_stand_below_their_inputs(n, dtype):
    p, x = model(), rows(n)
    x = np.round(x * 255).astype(np.uint8) if dtype == "uint8" else x
    pixels = x / 255 if dtype == "uint8" else x
    means = decode(p, encode(p, pixels)[0])
    image = pictured(plots.reconstructions(p, x, (3, 4)))
    shown = min(n, 16)
    assert image.shape == (7, 5 * shown - 1)
    for i in range(shown):
        above, below = image[:3, 5 * i : 5 * i + 4], image[4:, 5 * i : 5 * i + 4]
        (row,) = np.flatnonzero((np.abs(pixels - above.ravel()) < 1e-9).all(axis=1))
        np.testing.assert_allclose(below.ravel(), means[row], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_reconstructions_however_few_leave_room_for_their_title(n):
    picture = rendered(plots.reconstructions(model(), rows(n), (3, 4)))
    dark = (picture < 0.5).all(axis=-1).any(axis=0)  # columns with ink: the title must not run into the edges
    assert not dark[:2].any() and not dark[-2:].any()


def test_the_manifold_has_z1_to_the_right_and_z2_upwards():
    # A decoder whose two inputs show its two latents themselves.
    p = Parameters.zeros(Architecture(2, (), 2, likelihood="gaussian"))
    p["output.W"][...] = np.eye(2)
    image = pictured(plots.manifold(p, (1, 2), side=4))
    z1, z2 = image[::2, 0::3], image[::2, 1::3]
    assert z1.shape == z2.shape == (4, 4)
    assert (np.diff(z1, axis=1) > 0).all() and (np.diff(z2, axis=0) < 0).all()
    # The quartiles' middles of N(0, 1), from tables.
    np.testing.assert_allclose(z1[0], [-1.150349, -0.318639, 0.318639, 1.150349], atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- plane

LABELS = {
    "digits": np.arange(30) % 10,
    "text": np.array(["cat", "dog", "elk"])[np.arange(30) % 3],
    "one label": np.zeros(30, int),
    "two of 0 and 9": np.where(np.arange(30) % 2, 0, 9),
    "truth": np.arange(30) % 2 == 0,
    "numbers with gaps": np.array([-5, 0, 1000])[np.arange(30) % 3],
}


@pytest.mark.parametrize("name", LABELS)
def test_each_label_has_a_colour_of_its_own_which_the_legend_names(name):
    labels = LABELS[name]
    figure = plots.latent(model(), rows(), labels)
    (axes,) = figure.axes
    (points,) = axes.collections
    rendered(figure)
    colours = {tuple(colour): label for colour, label in zip(points.get_facecolors(), labels)}
    assert len(colours) == len(set(labels.tolist()))
    legend = axes.get_legend()
    named = {handle.get_color(): text.get_text() for handle, text in zip(legend.legend_handles, legend.get_texts())}
    assert sorted(named.values()) == sorted(str(label) for label in set(labels.tolist()))
    for colour, label in named.items():
        near = min(colours, key=lambda known: np.abs(np.subtract(known[:3], to_rgb(colour))).sum())
        assert str(colours[near]) == label


@pytest.mark.parametrize("labels", [np.arange(30), np.linspace(0, 1, 30), np.array([f"kind {i}" for i in range(30)])])
def test_more_than_ten_labels_are_coloured_without_a_legend_that_would_hide_the_picture(labels):
    figure = plots.latent(model(), rows(), labels)
    rendered(figure)
    (points,) = figure.axes[0].collections
    assert len({tuple(colour) for colour in points.get_facecolors()}) == 30
    assert figure.axes[0].get_legend() is None


@pytest.mark.parametrize("n", [1, 30])
def test_points_stand_at_the_means_of_q(n):
    p, x = model(), rows(n)
    for labels in (None, np.arange(n)):
        figure = plots.latent(p, x, labels)
        (points,) = figure.axes[0].collections
        np.testing.assert_allclose(points.get_offsets(), encode(p, x)[0])
        assert rendered(figure).std() > 0.02


def test_bytes_stand_at_the_same_points_as_the_pixels_they_mean():
    p, x = model(), np.round(rows() * 255).astype(np.uint8)
    offsets = [plots.latent(p, array).axes[0].collections[0].get_offsets() for array in (x, x / 255)]
    np.testing.assert_allclose(*offsets)


# -------------------------------------------------------------------------------------------------------- known_answers


def test_curves_of_known_answers_show_the_best_so_far_and_an_error_of_0_at_the_resolution_of_numbers():
    bound, log_p = Curve([-9.0, -5.0, -6.0, -4.0], -3.0), Curve([-8.0, -4.5, -3.0, -3.5], -3.0)
    errors = Curve([4.0, 2.0, 3.0, 1.0], 1.0), Curve([2.0, 3.0, 1e-3, 0.0], 0.0)
    figure = plots.known_answers(bound, log_p, *errors)
    assert rendered(figure).std() > 0.02
    lines = [[list(line.get_ydata()) for line in axes.lines] for axes in figure.axes]
    assert lines[0] == [[-8.0, -4.5, -4.5, -3.5], [-9.0, -5.0, -5.0, -4.0], [-3.0, -3.0]]
    assert lines[1:] == [[[4.0, 2.0, 2.0, 1.0], [1.0, 1.0]], [[2.0, 2.0, 1e-3, 1e-16]]]


def test_the_legend_of_known_answers_covers_no_curve():
    curve = Curve([4.0, 2.0, 1.0], 1.0)
    figure = plots.known_answers(Curve([-9.0, -5.0, -4.0], -3.0), Curve([-8.0, -4.5, -3.5], -3.0), curve, curve)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0


# ------------------------------------------------------------------------------------------------------- gradient estimators


def moments(mean, variance, bias, n_draws=100):
    """The moments of an estimator, the same for every coordinate."""
    arrays = {name: dict.fromkeys(BIASES, np.full(4, value)) for name, value in (("m", mean), ("v", variance), ("b", bias))}
    return Sampled(n_draws, arrays["m"], arrays["v"], arrays["b"], arrays["v"])


def test_the_signal_to_noise_ratio_is_the_gradient_by_the_standard_deviation_with_lines_of_slope_a_half():
    of = {K: {"total": moments(9.0, K, 0.0), "dreg": moments(-2.0, 1e-9, 0.0)} for K in (1, 4, 100)}
    decoder, rising, encoder, falling = plots.signal_to_noise(of).axes[0].lines
    for line in (decoder, encoder, falling):
        np.testing.assert_allclose(line.get_ydata(), [2, 1, 0.2])
    np.testing.assert_allclose(rising.get_ydata(), [2, 4, 20])
    assert list(encoder.get_xdata()) == [1, 4, 100]


def test_estimators_are_drawn_by_ratio_bias_and_variance_and_a_bias_of_chance_is_not():
    of = {K: {"total": moments(2.0, 4.0, 0.1), "path": moments(2.0, 1.0, 3.0), "dreg": moments(2.0, 0.25, 0.0)} for K in (1, 5)}
    figure = plots.estimators({"near": of, "far": of})
    assert len(figure.axes) == 6
    ratio, bias, variance = ({line.get_label(): line.get_ydata()[-1] for line in axes.lines} for axes in figure.axes[3:])
    assert [ratio[f"{name}, by mu.b"] for name in ("total", "path", "dreg")] == [1, 2, 4]
    assert [variance[f"{name}, by logvar.b"] for name in ("total", "path", "dreg")] == [4, 1, 0.25]
    assert bias["path, by mu.b"] == pytest.approx(9 - 1 / 100)
    assert np.isnan([bias["total, by mu.b"], bias["dreg, by mu.b"]]).all()
    assert shows(figure, plots.ESTIMATOR_COLOURS["path"]) and "far" in figure.axes[3].get_title()


def test_estimators_without_any_bias_are_drawn_too():
    of = {1: {name: moments(2.0, 4.0, 0.0) for name in ("total", "path", "dreg")}}
    rendered(plots.estimators({"of one sample": of}))
