"""The gradients of the model line by line: each line with its equation, its shapes, its numbers and its proof."""

from vae_np.study.lines import Array, Line
from vae_np.study.trace import Trace, trace

__all__ = ["Array", "Line", "Trace", "trace"]
