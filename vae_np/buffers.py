"""The arrays that a pass of the model fills: values in a forward pass, derivatives of the loss in a backward pass."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, NOISES, OBJECTIVES


class Buffers(NamedTuple):
    """The values of one pass, or the derivatives of the loss with respect to them.

    encoder[0] is x, and decoder[0] is z; the hidden layers follow. encoder[i + 1] is the activation of
    y = encoder[i] @ W + b, where W and b are those of p.encoder[i], and this y is encoder_y[i]. It is kept only if the
    derivative of the activation needs it; otherwise it has no elements. The same holds for decoder and decoder_y.
    """

    x: NDArray  #                       (B, D)
    eps: NDArray  #                     (L, B, Z)
    encoder: tuple[NDArray, ...]  #     (B, H) each
    encoder_y: tuple[NDArray, ...]  #   (B, H) each
    mu: NDArray  #                      (B, Z)
    logvar: NDArray  #                  (B, Z)
    z: NDArray  #                       (L, B, Z)
    decoder: tuple[NDArray, ...]  #     (L, B, H) each
    decoder_y: tuple[NDArray, ...]  #   (L, B, H) each
    output: NDArray  #                  (L, B, D)  the logits, or the mean of x given z
    output_logvar: NDArray  #           (L, B, D or 1)  the log-variance of x given z
    nll: NDArray  #                     (L, B)
    kl: NDArray  #                      (K, B)
    loss: NDArray  #                    (B,)


def buffers(
    architecture: Architecture,
    objective: str,
    n_samples: int,
    n_examples: int,
    dtype: DTypeLike,
    zeros: Callable[..., NDArray] = np.zeros,
) -> Buffers:
    """Make the Buffers for a pass over n_examples examples, with n_samples samples of z for each.

    Parameters
    ----------
    architecture : Architecture
        The architecture, which gives the widths.
    objective : str
        The objective. It decides whether kl has a value for each sample, or one for each example.
    n_samples, n_examples : int
        L and B in the shapes of `Buffers`.
    dtype : dtype
        The type of all numbers.
    zeros : function
        zeros(shape, dtype) makes an array where the kernel set needs it.
    """
    arch, L, B = architecture, n_samples, n_examples
    widths, keeps_y = arch.hidden, ACTIVATIONS[arch.activation].keeps_y

    def array(*shape):
        return zeros(shape, dtype)

    x, z = array(B, arch.n_inputs), array(L, B, arch.n_latent)
    return Buffers(
        x=x,
        eps=array(L, B, arch.n_latent),
        encoder=(x, *(array(B, width) for width in widths)),
        encoder_y=tuple(array(B if keeps_y else 0, width) for width in widths),
        mu=array(B, arch.n_latent),
        logvar=array(B, arch.n_latent),
        z=z,
        decoder=(z, *(array(L, B, width) for width in reversed(widths))),
        decoder_y=tuple(array(L, B if keeps_y else 0, width) for width in reversed(widths)),
        output=array(L, B, arch.n_inputs),
        output_logvar=array(L, B, arch.n_inputs if NOISES[arch.noise].per_input else 1),
        nll=array(L, B),
        kl=array(L if OBJECTIVES[objective].sampled else 1, B),
        loss=array(B),
    )


def batch_slice(whole: Buffers, start: int, stop: int) -> Buffers:
    """The Buffers of the examples from start to stop, which use the memory of the Buffers of the whole batch.

    All samples of one slice lie side by side in memory, and those of the next slice follow. `weight_gradients` sums over all
    rows in any order, so that it can use the whole arrays after the slices have been filled.
    """

    def of_examples(array: NDArray) -> NDArray:  # (B, ..)
        return array[start:stop]

    def of_samples(array: NDArray) -> NDArray:  # (L, B, ..)
        L, _, *rest = array.shape
        if not array.size:
            return array
        return array.reshape(-1, *rest)[L * start : L * stop].reshape(L, stop - start, *rest)

    return Buffers(
        x=of_examples(whole.x),
        eps=of_samples(whole.eps),
        encoder=tuple(map(of_examples, whole.encoder)),
        encoder_y=tuple(map(of_examples, whole.encoder_y)),
        mu=of_examples(whole.mu),
        logvar=of_examples(whole.logvar),
        z=of_samples(whole.z),
        decoder=tuple(map(of_samples, whole.decoder)),
        decoder_y=tuple(map(of_samples, whole.decoder_y)),
        output=of_samples(whole.output),
        output_logvar=of_samples(whole.output_logvar),
        nll=of_samples(whole.nll),
        kl=of_samples(whole.kl),
        loss=of_examples(whole.loss),
    )
