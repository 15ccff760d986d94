"""Arrays as pictures: heat maps and images. Each is an element <img> that contains its own PNG, and the numbers that it shows."""

import base64
import html
import io

import numpy as np
from numpy.typing import NDArray

POSITIVE, NEGATIVE = (214, 100, 10), (20, 60, 150)  # page.css has the same two colours, for the legend
LARGEST = 64, 96  # rows and columns of a heat map; of a larger array it shows the means of blocks
HALF = 2.0**15  # numbers are kept in half precision, as multiples of such a unit that the largest is HALF: to 11 bits


def heat_map(name: str, value: NDArray, scale: float, readable: bool) -> str:
    """An array as a heat map, of which a script can read the numbers if it is readable; the colour is full where a number is as large as scale."""
    rows, edges = value.reshape(-1, value.shape[-1]), []
    for axis, most in enumerate(LARGEST):
        edges.append(np.linspace(0, rows.shape[axis], min(most, rows.shape[axis]) + 1).astype(int))
        rows = np.add.reduceat(rows, edges[-1][:-1], axis=axis) / np.diff(edges[-1]).reshape((-1, 1) if axis == 0 else (1, -1))
    words = f"heat map of {name}: positive numbers are orange, negative numbers are blue"
    shape = " ".join(map(str, value.shape))
    return _signed(
        rows, f'class="heat" style="height:{min(8 * rows.shape[0], 96)}px" data-shape="{shape}"', words, scale, readable
    )


def signed_images(rows: NDArray, image_shape: tuple[int, ...], words: str, scale: float, readable: bool) -> str:
    """The rows of an array as images side by side, as `heat_map` has them; words describe them to those who do not see them."""
    attributes = f'class="pictures signed" data-images="{" ".join(map(str, image_shape))}"'
    return _signed(_strip(rows, image_shape), attributes, words, scale, readable)


def images(rows: NDArray, image_shape: tuple[int, ...], words: str) -> str:
    """The rows of an array as images in grey, side by side; words describe them to those who do not see them."""
    return f'<img class="pictures" alt="{html.escape(words)}" src="{grey_png(_strip(rows, image_shape))}">'


def _strip(rows, image_shape):
    rows = rows.reshape(-1, *image_shape)
    gap = np.zeros((len(rows), image_shape[0], 1))
    return np.concatenate([np.concatenate([image, space], axis=1) for image, space in zip(rows, gap)], axis=1)[:, :-1]


def _signed(cells, attributes, words, scale, readable):
    if readable:
        largest = float(np.abs(cells).max()) or 1.0
        numbers = base64.b64encode((cells / largest * HALF).astype("<f2").tobytes()).decode()
        attributes += (
            f' tabindex="0" data-grid="{len(cells)} {cells.shape[1]}" data-unit="{largest / HALF!r}" data-cells="{numbers}"'
        )
    return f'<img {attributes} alt="{html.escape(words)}" src="{signed_png(cells, scale)}">'


def signed_png(values: NDArray, scale: float) -> str:
    """A PNG whose colour shows the sign and whose opacity shows the size: where a value is 0, the page shows through."""
    levels = np.round(127 * np.clip(values / (scale or 1.0), -1, 1)).astype(int) + 127
    colours = [NEGATIVE if level < 127 else POSITIVE for level in range(255)]
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
