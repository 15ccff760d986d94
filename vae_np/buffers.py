"""The arrays that a pass of the model fills: the values of its lines, or the derivatives of the loss by them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, NOISES, OBJECTIVES


class Buffers(NamedTuple):
    """The values of one pass, or their derivatives. encoder[0] is x, decoder[0] is z; then come the hidden layers.

    encoder_y[i] is the sum y = h @ p.encoder[i].W + p.encoder[i].b of which encoder[i + 1] is the activation; it is kept only
    where the activation's derivative needs it, and has no elements otherwise. So it is with decoder_y.
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
    output: NDArray  #                  (L, B, D)  logits, or the mean of x
    output_logvar: NDArray  #           (L, B, D or 1)  log-variance of x given z
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
    """Buffers for a pass over so many samples and examples, in arrays that zeros(shape, dtype) makes."""
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
    """The Buffers of the examples from start to stop, in the memory of those of a batch.

    The samples of a slice stand together, and those of the next slice follow: to `weight_gradients`, which takes every
    sample for a row, all slices together are again the batch.
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
