"""A variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114) whose every derivative is written by hand."""

import importlib

__version__ = "0.2.0"

# Where each public name is defined; a module is imported when one of its names is first used.
_HOMES = {
    "Architecture": "architecture",
    "Parameters": "parameters",
    "loss": "elbo",
    "loss_and_gradients": "elbo",
    "encode": "elbo",
    "decode": "elbo",
    "SGD": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "log_likelihood": "bounds",
    "train": "training",
    "VAE": "estimator",
}
__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'vae_np' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vae_np.{_HOMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *_HOMES])
