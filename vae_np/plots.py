"""Pictures of a run: its losses, what it reconstructs, what it draws, and its latent plane where that is a plane."""

import math
import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae_np import streams
from vae_np.elbo import decode, encode
from vae_np.parameters import replacing

TRAIN, VALID = "#1f6f8b", "#d1495b"


def draw_run(p, history, dataset, folder, seed=0):
    """Draw every picture that this run allows into the folder; the list of their paths."""
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


def write(figure, path):
    """Write the figure as a PNG, whole or not at all; its path."""
    with replacing(path) as file:
        FigureCanvasAgg(figure).print_png(file)
    return path


def losses(history):
    """Total, reconstruction and KL by epoch, training and validation in each: where the two part, the model over-fits."""
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) == 1 else None  # one point makes no line
    titles = {
        "total": "loss = reconstruction + β KL + L2",
        "reconstruction": "reconstruction, −log p(x|z)",
        "kl": "KL(q(z|x) ‖ p(z))",
    }
    for axes, (term, title) in zip(figure.subplots(1, 3), titles.items()):
        for part, colour in (("train", TRAIN), ("valid", VALID)):
            if f"{part}_{term}" in history[0]:
                axes.plot(epochs, [row[f"{part}_{term}"] for row in history], color=colour, label=part, lw=1.8, marker=marker)
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


def known_answers(elbo, log_p, on_digits, on_a_plane):
    """The Curves of models whose end is known (`vae_np.closed_form`), each with that end as a line."""
    figure = Figure(figsize=(13, 4), dpi=110, layout="constrained")
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
        axes.legend(frameon=False, fontsize=9, loc="lower right" if axes is bound else "upper right")
    return figure


def reconstructions(p, x, image_shape, seed=0, n=16):
    """Inputs above, and below each the mean of p(x|z) at the mean of q(z|x)."""
    rows = np.sort(streams.permutation(seed, "sample", 0, len(x))[:n])
    x = x[rows] / (255 if x.dtype == np.uint8 else 1)
    means = decode(p, encode(p, x)[0])
    figure = Figure(figsize=(max(len(rows), 6) * 0.72, 2.0), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    _show(axes, _tiles(np.concatenate([x, means]), image_shape, len(rows)))
    axes.set_title("inputs (above) and their reconstructions", fontsize=10)
    return figure


def samples(x, image_shape):
    """Rows as images; meant for the mean of p(x|z) at z drawn from the prior."""
    return _grid(x, image_shape, math.ceil(len(x) ** 0.5), "drawn from the prior, z ~ N(0, 1)")


def manifold(p, image_shape, side=20):
    """The mean of p(x|z) over the plane of z, at evenly spaced quantiles of the prior in both directions."""
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(side) + 0.5) / side)
    z = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
    return _grid(decode(p, z), image_shape, side, "the latent plane, at quantiles of the prior")


def latent(p, x, labels=None, part="held-out"):
    """The mean of q(z|x) of each row, coloured by label."""
    figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    mu = encode(p, x)[0]
    if labels is None:
        axes.scatter(*mu.T, s=6, color=TRAIN, alpha=0.6, lw=0)
    else:
        names, colours = np.unique(labels), "tab10" if len(np.unique(labels)) <= 10 else "viridis"
        points = axes.scatter(*mu.T, s=9, c=np.searchsorted(names, labels), cmap=colours, alpha=0.75, lw=0)
        if len(names) <= 10:
            words = [str(name).replace("$", r"\$") for name in names]  # between two of them stands mathematics
            handles = points.legend_elements(num=None)[0]  # pyright: ignore[reportArgumentType]  # None: one for each number
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
    """Images side by side in one array, a line of NaN between them."""
    height, width = image_shape
    images = np.full((-(-len(x) // columns) * columns, height + 1, width + 1), np.nan)
    images[: len(x), :-1, :-1] = x.reshape(-1, height, width)
    images = images.reshape(-1, columns, height + 1, width + 1).transpose(0, 2, 1, 3)
    return images.reshape(images.shape[0] * (height + 1), -1)[:-1, :-1]


def _show(axes, image):
    axes.imshow(image, cmap="gray_r", vmin=np.nanmin(image), vmax=np.nanmax(image), interpolation="nearest")
    axes.set_axis_off()
