"""Arrays as pictures: heat maps and images. Each is an element <img> that contains its own PNG."""

import base64
import html
import io
import math

import numpy as np
from numpy.typing import NDArray

from vae_np.study.lines import Array

RED, BLUE = (190, 54, 74), (31, 111, 139)
LARGEST = 64, 96  # rows and columns of a heat map; of a larger array it shows the means of blocks


def picture(array: Array, image_shape: tuple[int, ...] | None) -> str:
    """The picture of an array: images where it belongs to images, else a heat map; "" where all its elements are 0."""
    value = array.value
    if value.size < 2 or not value.any():
        return ""
    is_derivative = array.error is not None
    name = array.name.removeprefix("d") if is_derivative else array.name
    if image_shape and name in ("x", "output") and value.shape[-1] == math.prod(image_shape):
        words = "the output as images, for the first sample of each example"
        if is_derivative:
            words = "the derivative as images: red where a smaller value would lower the loss, blue where a larger one would"
        return images(value.reshape(-1, *value.shape[-2:])[0], image_shape, words, signed=True)
    rows = value.reshape(-1, value.shape[-1])
    for axis, most in enumerate(LARGEST):
        edges = np.linspace(0, rows.shape[axis], min(most, rows.shape[axis]) + 1).astype(int)
        rows = np.add.reduceat(rows, edges[:-1], axis=axis) / np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
    height = min(8 * rows.shape[0], 96)
    words = f"heat map of {array.name}: positive values are red, negative values are blue"
    return f'<img class="heat" style="height:{height}px" alt="{html.escape(words)}" src="{signed_png(rows)}">'


def images(rows: NDArray, image_shape: tuple[int, ...], words: str, signed: bool = False) -> str:
    """The rows of an array as images side by side; words describe them to those who do not see them."""
    rows = rows.reshape(-1, *image_shape)
    gap = np.zeros((len(rows), image_shape[0], 1))
    strip = np.concatenate([np.concatenate([image, space], axis=1) for image, space in zip(rows, gap)], axis=1)[:, :-1]
    source = signed_png(strip) if signed else grey_png(strip)
    return f'<img class="pictures" alt="{html.escape(words)}" src="{source}">'


def signed_png(values: NDArray) -> str:
    """A PNG whose colour shows the sign and whose opacity shows the size: where a value is 0, the page shows through."""
    scale = np.abs(values).max() or 1.0
    levels = np.round(127 * values / scale).astype(int) + 127
    colours = [BLUE if level < 127 else RED for level in range(255)]
    return _png(levels, colours, [round(255 * (abs(level - 127) / 127) ** 0.7) for level in range(255)])


def grey_png(values: NDArray) -> str:
    """A PNG in grey: the least value is white, the largest is black."""
    low, high = float(values.min()), float(values.max())
    levels = np.round(255 * (values - low) / (high - low or 1)).astype(int)
    return _png(levels, [(255 - level,) * 3 for level in range(256)])


def _png(levels, colours, opacity=None):
    """The address of a PNG that is its own content, from the index of each pixel's colour."""
    from PIL import Image

    image, file = Image.fromarray(levels.astype(np.uint8), "P"), io.BytesIO()
    image.putpalette([part for colour in colours for part in colour])
    image.save(file, "png", optimize=True, **({"transparency": bytes(opacity)} if opacity else {}))
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
