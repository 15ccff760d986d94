"""How each line follows from its definition: a short derivation for each operation, in the language of `formulas`.

The last step of a derivation leads to the operation's own formula and code. Those stand in `kernels.reference` and are not
repeated here. The tests evaluate both sides of every formula.
"""

from vae_np.kernels.contract import ENDINGS
from vae_np.study.derivations import activations, bounds, estimators, general, latents, layers, likelihoods
from vae_np.study.derivations.derivation import Derivation, Step

__all__ = ["DERIVATIONS", "Derivation", "Step", "key_of"]

DERIVATIONS: dict[str, Derivation] = {
    **general.DERIVATIONS,
    **layers.DERIVATIONS,
    **activations.DERIVATIONS,
    **latents.DERIVATIONS,
    **likelihoods.DERIVATIONS,
    **bounds.DERIVATIONS,
    **estimators.DERIVATIONS,
}

_KEYS = {
    operation + ending: key
    for key, derivation in DERIVATIONS.items()
    for operation in derivation.operations or (key,)
    for ending in ENDINGS
}


def key_of(operation: str) -> str | None:
    """The key in DERIVATIONS of an operation; an operation and its derivatives have the same derivation.

    Parameters
    ----------
    operation : str
        The name of an operation of `kernels.reference`.

    Returns
    -------
    str or None
        None where the operation has no derivation.

    Examples
    --------
    >>> key_of("affine_relu"), key_of("relu_backward"), key_of("gather")
    ('relu', 'relu', None)
    """
    return _KEYS.get(operation)
