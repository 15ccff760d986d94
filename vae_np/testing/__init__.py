"""Tools to test gradients with: differences of the loss, and comparison element by element."""

from vae_np.testing.comparison import TOLERANCES, assert_close, relative_errors
from vae_np.testing.gradients import Worst, check_gradients, check_model, numerical_gradient

__all__ = [
    "TOLERANCES",
    "Worst",
    "assert_close",
    "check_gradients",
    "check_model",
    "numerical_gradient",
    "relative_errors",
]
