"""From its definition to its line: a short derivation for each operation, in the language of `formulas`.

The last step leads up to the operation's own formula and code, which stand in `kernels.reference` and not here again. The
tests evaluate both sides of every formula.
"""

import re

from vae_np.study.derivations import activations, bounds, general, latents, layers, likelihoods
from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
    **general.DERIVATIONS,
    **layers.DERIVATIONS,
    **activations.DERIVATIONS,
    **latents.DERIVATIONS,
    **likelihoods.DERIVATIONS,
    **bounds.DERIVATIONS,
}


def stem(operation):
    """The key in DERIVATIONS of an operation, by its name: a forward and its derivative have one."""
    name = re.sub("_(backward|backward_add|gradients)$", "", operation).replace("_mean", "_nll")
    return name.removeprefix("affine_")
