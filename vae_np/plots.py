"""Pictures of a run: its losses, its reconstructions, samples of the model, and the latent space where it is a plane."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vae_np import gradient_moments, streams
from vae_np.elbo import decode, encode
from vae_np.parameters import Parameters, replacing

if TYPE_CHECKING:
    from vae_np.closed_form import Curve
    from vae_np.data import Dataset

AnyPath = TypeVar("AnyPath", bound=str | os.PathLike)

TRAIN, VALID = "#1f6f8b", "#d1495b"
MOST_POINTS = 10**5  # of a picture; more would hide one another


def draw_run(
    p: Parameters, history: Sequence[Mapping[str, float]], dataset: Dataset, folder: str | os.PathLike, seed: int = 0
) -> list[str]:
    """Draw into a folder every picture that a run allows.

    The losses are drawn for every run, images only where the rows of the data set are images, and the latent plane only where
    z has two elements.

    Parameters
    ----------
    p : Parameters
        The trained model.
    history : sequence of dict
        The rows of the run's history, one for each epoch.
    dataset : Dataset
        The data that the model was trained on.
    folder : path
        The folder for the pictures. It must exist.
    seed : int
        The seed of the samples, and of the choice of the rows that are reconstructed.

    Returns
    -------
    list of str
        The paths of the pictures.

    Raises
    ------
    OSError
        A picture cannot be written.
    """
    figures, (x, labels) = {"losses.png": losses(history)}, dataset.shown
    if dataset.image_shape:
        figures["reconstructions.png"] = reconstructions(p, x, dataset.image_shape, seed)
        z = streams.normals(seed, "sample", 1, (1, 144, p.architecture.n_latent), p.flat.dtype)[0]
        figures["samples.png"] = samples(decode(p, z), dataset.image_shape)
        if p.architecture.n_latent == 2:
            figures["manifold.png"] = manifold(p, dataset.image_shape)
    if p.architecture.n_latent == 2:
        figures["latent.png"] = latent(p, x, labels, dataset.part)
    return [write(figure, os.path.join(folder, name)) for name, figure in figures.items()]


def write(figure: Figure, path: AnyPath) -> AnyPath:
    """Write the figure as a PNG, whole or not at all, and return its path. OSError says that it cannot be written."""
    with replacing(path) as file:
        FigureCanvasAgg(figure).print_png(file)
    return path


def losses(history: Sequence[Mapping[str, float]]) -> Figure:
    """Three charts by epoch: the total loss, the reconstruction and the KL.

    Each chart has a curve for the training data and one for the validation data, if there are any. Where the validation loss
    rises while the training loss falls, the model over-fits.
    """
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) == 1 else None  # a line through one point would not be visible
    titles = {
        "total": "loss = reconstruction + β KL + L2",
        "reconstruction": "reconstruction, −log p(x|z)",
        "kl": "KL(q(z|x) ‖ p(z))",
    }
    for axes, (term, title) in zip(figure.subplots(1, 3), titles.items()):
        for split, colour in (("train", TRAIN), ("valid", VALID)):
            if f"{split}_{term}" in history[0]:
                axes.plot(epochs, [row[f"{split}_{term}"] for row in history], color=colour, label=split, lw=1.8, marker=marker)
        shown = [row[key] for row in history[len(history) // 20 :] for key in (f"train_{term}", f"valid_{term}") if key in row]
        margin = 0.06 * (max(shown) - min(shown)) or 1
        axes.set(
            title=title,
            xlabel="epoch (heights fitted to the last 95 %)",
            ylabel="nats per example",
            ylim=(min(shown) - margin, max(shown) + margin),
        )
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def known_answers(elbo: Curve, log_p: Curve, on_digits: Curve, on_a_plane: Curve) -> Figure:
    """The training curves of models whose best loss has a closed form (`vae_np.closed_form`), with that limit as a line.

    Parameters
    ----------
    elbo, log_p : Curve
        The ELBO and log p(x) of a linear VAE, as `bound_of_a_linear_model` returns them.
    on_digits, on_a_plane : Curve
        The squared errors of two linear autoencoders, as `error_of_a_linear_autoencoder` returns them: one was fitted to
        digits, and one to data that lie on a plane.

    Returns
    -------
    Figure
        One chart of the linear VAE, and one of each autoencoder.
    """
    figure = Figure(figsize=(13, 4.6), dpi=110, layout="constrained")
    bound, digits, plane = figure.subplots(1, 3)
    steps = np.arange(1, len(elbo.reached) + 1)
    best = np.maximum.accumulate(elbo.reached)
    at_best = np.array(log_p.reached)[[elbo.reached.index(value) for value in best]]
    bound.fill_between(steps, best, at_best, color=TRAIN, alpha=0.25, lw=0, label="gap: KL(q(z|x) ‖ p(z|x))")
    bound.plot(steps, at_best, color=TRAIN, label="log p(x), exact")
    bound.plot(steps, best, color=VALID, label="ELBO")
    bound.axhline(elbo.limit, color="black", ls="--", lw=1, label="maximum of probabilistic PCA")
    start = min(best[len(best) // 100], elbo.limit - 1)
    bound.set(title="linear VAE on digits", ylabel="nats per row", ylim=(start, elbo.limit + 0.05 * (elbo.limit - start)))
    for axes, curve, title in (
        (digits, on_digits, "linear autoencoder on digits"),
        (plane, on_a_plane, "the same on a plane of data"),
    ):
        axes.plot(np.minimum.accumulate(np.maximum(curve.reached, 1e-16)), color=VALID, label="squared error")
        axes.set(title=title, ylabel="squared error per row", yscale="log")
    digits.axhline(on_digits.limit, color="black", ls="--", lw=1, label="discarded eigenvalues: not zero")
    for axes in (bound, digits, plane):
        axes.set(xlabel="evaluations of the loss", xscale="log")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14))  # below: it covers no curve
    return figure


def signal_to_noise(moments: Mapping[int, Mapping[str, gradient_moments.Sampled]]) -> Figure:
    """The signal-to-noise ratio of the gradient against the number of samples K, for the encoder and for the decoder.

    Parameters
    ----------
    moments : mapping
        {K: {"total": Sampled, "dreg": Sampled}} of one model. The gradient itself is the mean of "dreg".

    Returns
    -------
    Figure
        One chart with logarithmic axes. Straight lines have the slopes 1/2 and -1/2.
    """
    figure = Figure(figsize=(6.4, 4.6), dpi=120, layout="constrained")
    axes, K = figure.add_subplot(), np.array(list(moments))
    for name, colour, slope, label in (
        ("output.b", TRAIN, 0.5, "decoder (output.b)"),
        ("mu.b", VALID, -0.5, "encoder (mu.b), the derivative of the loss"),
    ):
        ratios = [gradient_moments.signal_to_noise(of["total"], of["dreg"], name) for of in moments.values()]
        axes.plot(K, ratios, color=colour, marker="o", ms=5, label=label)
        sign = "−" if slope < 0 else ""
        axes.plot(K, ratios[0] * K**slope, color=colour, ls="--", lw=1, label=f"a line of slope {sign}1/2")
    axes.set(xscale="log", yscale="log", xlabel="K, the number of samples in the bound")
    axes.set(ylabel="|mean| / standard deviation", title="A tighter bound has a noisier gradient of the encoder")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


ESTIMATOR_COLOURS = {"total": VALID, "path": "#e09f3e", "dreg": TRAIN}


def estimators(models: Mapping[str, Mapping[int, Mapping[str, gradient_moments.Sampled]]]) -> Figure:
    """The signal-to-noise ratio, the squared bias and the variance of estimators against the number of samples K.

    Parameters
    ----------
    models : mapping
        {title of a model: {K: {estimator: Sampled}}}. The gradient itself is the mean of "dreg", from which biases are taken.

    Returns
    -------
    Figure
        A row of three charts for each model. A bias that is not above what chance gives is not drawn.
    """
    figure = Figure(figsize=(13, 3.9 * len(models)), dpi=110, layout="constrained")
    for row, (title, moments) in zip(figure.subplots(len(models), 3, squeeze=False), models.items()):
        for (estimator, colour), (name, style) in itertools.product(
            ESTIMATOR_COLOURS.items(), {"mu.b": "-", "logvar.b": "--"}.items()
        ):
            curves = (
                [gradient_moments.signal_to_noise(of[estimator], of["dreg"], name) for of in moments.values()],
                [gradient_moments.squared_bias(of[estimator], name) for of in moments.values()],
                [float(np.mean(of[estimator].variance[name])) for of in moments.values()],
            )
            for axes, curve in zip(row, curves):
                axes.plot(list(moments), curve, color=colour, ls=style, marker="o", ms=4, label=f"{estimator}, by {name}")
        for axes, what in zip(row, ("signal-to-noise ratio", "squared bias (of total and dreg none above chance)", "variance")):
            drawn = np.concatenate([line.get_ydata() for line in axes.lines])  # perhaps no bias, which has no logarithm
            scale = "log" if np.isfinite(drawn).any() else "linear"
            axes.set(xscale="log", yscale=scale, xlabel="K, the number of samples")
            axes.set_title(f"{what}\n{title}", fontsize=10)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        row[1].set_xlim(row[0].get_xlim())
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, ncols=6, loc="outside upper center")
    return figure


def reconstructions(p: Parameters, x: NDArray, image_shape: tuple[int, ...], seed: int = 0, n: int = 16) -> Figure:
    """Inputs in the upper row, and in the lower row their reconstructions.

    A reconstruction is the mean of p(x|z) at the mean of q(z|x).

    Parameters
    ----------
    p : Parameters
        The model.
    x : array (N, D)
        The rows, from which some are chosen at random.
    image_shape : (int, int)
        The height and the width of an image.
    seed : int
        The seed of the choice.
    n : int
        The number of rows that are shown; where x has fewer, all are shown.
    """
    rows = np.sort(streams.permutation(seed, "sample", 0, len(x))[:n])
    x = x[rows] / (255 if x.dtype == np.uint8 else 1)
    means = decode(p, encode(p, x)[0])
    figure = Figure(figsize=(max(len(rows), 6) * 0.72, 2.0), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    _show(axes, _tiles(np.concatenate([x, means]), image_shape, len(rows)))
    axes.set_title("inputs (above) and their reconstructions", fontsize=10)
    return figure


def samples(x: NDArray, image_shape: tuple[int, ...]) -> Figure:
    """The rows of x (N, D) as images in a square grid. The title says that they are samples of the model.

    Each row should be the mean of p(x|z) at a z that was drawn from the prior.
    """
    return _grid(x, image_shape, math.ceil(len(x) ** 0.5), "drawn from the prior, z ~ N(0, 1)")


def manifold(p: Parameters, image_shape: tuple[int, ...], side: int = 20) -> Figure:
    """The mean of p(x|z) at side x side points of a latent plane. They are evenly spaced quantiles of the prior on each axis."""
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(side) + 0.5) / side)
    z = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
    return _grid(decode(p, z), image_shape, side, "the latent plane, at quantiles of the prior")


def latent(p: Parameters, x: NDArray, labels: NDArray | None = None, part: str = "held-out") -> Figure:
    """A point for each row of x (N, D) in the latent plane: the mean of q(z|x). Of very many rows some are taken.

    Parameters
    ----------
    p : Parameters
        The model. Its z has two elements.
    x : array (N, D)
        The rows.
    labels : array (N,), optional
        The labels of the rows, which give the points their colours.
    part : str
        The name of the split that the rows belong to, for the title.
    """
    figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if len(x) > MOST_POINTS:
        rows = np.linspace(0, len(x) - 1, MOST_POINTS).astype(int)
        x, labels = x[rows], None if labels is None else labels[rows]
    mu = encode(p, x)[0]
    if labels is None:
        axes.scatter(*mu.T, s=6, color=TRAIN, alpha=0.6, lw=0)
    else:
        names, colours = np.unique(labels), "tab10" if len(np.unique(labels)) <= 10 else "viridis"
        points = axes.scatter(*mu.T, s=9, c=np.searchsorted(names, labels), cmap=colours, alpha=0.75, lw=0)
        if len(names) <= 10:
            words = [str(name).replace("$", r"\$") for name in names]  # Matplotlib reads text between two $ as mathematics
            handles = points.legend_elements(num=None)[0]  # pyright: ignore[reportArgumentType]  # None asks for a handle for each label
            axes.legend(handles, words, title="label", frameon=False, bbox_to_anchor=(1, 1))
    axes.set(title=f"{part} rows, encoded: the mean of q(z|x)", xlabel="z₁", ylabel="z₂")
    axes.set_aspect("equal", "datalim")
    axes.grid(alpha=0.25)
    return figure


def _grid(x, image_shape, columns, title):
    figure = Figure(figsize=(6.4, 6.7), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _show(axes, _tiles(x, image_shape, columns))
    axes.set_title(title, fontsize=11)
    return figure


def _tiles(x, image_shape, columns):
    """One array that holds the images in a grid, with lines of NaN between them."""
    height, width = image_shape
    images = np.full((-(-len(x) // columns) * columns, height + 1, width + 1), np.nan)
    images[: len(x), :-1, :-1] = x.reshape(-1, height, width)
    images = images.reshape(-1, columns, height + 1, width + 1).transpose(0, 2, 1, 3)
    return images.reshape(images.shape[0] * (height + 1), -1)[:-1, :-1]


def _show(axes, image):
    axes.imshow(image, cmap="gray_r", vmin=np.nanmin(image), vmax=np.nanmax(image), interpolation="nearest")
    axes.set_axis_off()
