"""An array as the page shows it: its numbers where they are few, else a picture in which each number can be read."""

import html
import math

import numpy as np
from numpy.typing import NDArray

from vae_np.study.lines import Array
from vae_np.study.markup import View
from vae_np.study.pictures import heat_map, signed_images
from vae_np.study.typesetting import number

FEW = 16  # so many numbers or fewer are printed


def shown(array: Array, value: NDArray, view: View) -> str:
    """The numbers of an array, or of a part of it, as text or as a picture with the scale of the array.

    Parameters
    ----------
    array : Array
        The array.
    value : array
        array.value, or the part of a derivative that comes along one path.
    view : View
        Whether the examples are images, and whether a script is there that reads the pictures.
    """
    if value.size > 1 and not value.any():
        return '<p class="note">All of its numbers are 0.</p>'
    if value.size <= FEW:
        return numbers(array.name, value)
    scale = float(np.abs(array.value).max())
    summary = (
        f'<div class="numbers">min {number(value.min())}, max {number(value.max())}, norm {number(np.linalg.norm(value))}</div>'
    )
    is_derivative = array.error is not None
    name = array.name.removeprefix("d") if is_derivative else array.name
    if view.image_shape and name == "output" and value.shape[-1] == math.prod(view.image_shape):
        words = f"{array.name} as images, for the first sample of each example: positive numbers are orange, negative numbers are blue"
        return summary + signed_images(value.reshape(-1, *value.shape[-2:])[0], view.image_shape, words, scale, view.on_page)
    return summary + heat_map(array.name, value, scale, view.on_page)


def numbers(name: str, value: NDArray) -> str:
    """A few numbers as a table with the rows and columns of the array."""
    rows = value.reshape(-1, value.shape[-1]) if value.ndim else value.reshape(1, 1)
    cells = "".join(f"<tr>{''.join(f'<td>{number(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="few" role="table" aria-label="the numbers of {html.escape(name)}">{cells}</table></div>'
