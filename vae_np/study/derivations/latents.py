"""The derivations of the sample z and of the two forms of the KL."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "reparameterize": Derivation(
        "How a gradient passes through a random sample",
        (
            Step(
                "The loss contains a mean over z drawn from q, and mu and logvar are the parameters of q. Here f stands for "
                "everything that the loss computes from z.",
                "E_q[f(z)] = int_z N(z; mu, exp(logvar)) f(z)",
            ),
            Step(
                "A z that has been drawn is just a number: it does not say how it would change if mu changed. One can differentiate "
                "the density instead. This gives the score-function estimator, which is unbiased but very noisy.",
                "diff_mu E_q[f(z)] = E_q[f(z) (z - mu) / exp(logvar)]",
            ),
            Step(
                "It is better to draw eps from N(0, 1) and then to scale and shift it. The result is again Gaussian, with the mean "
                "mu and the standard deviation exp(logvar / 2). So z has the same density as before.",
                "E_q[f(z)] = E_eps[f(mu + exp(logvar / 2) eps)]",
            ),
            Step(
                "Now the density that we draw from has no parameters, so the derivative can be taken inside the mean: the drawn eps "
                "is held fixed, like any other input. The randomness does not stop the gradient.",
                "diff_mu E_eps[f(mu + exp(logvar / 2) eps)] = E_eps[diff_mu f(mu + exp(logvar / 2) eps)]",
            ),
            Step("What remains is the slope of z with respect to mu", "diff_mu (mu + exp(logvar / 2) eps) = 1"),
            Step("and with respect to logvar.", "diff_logvar (mu + exp(logvar / 2) eps) = eps exp(logvar / 2) / 2"),
            Step(
                "All L samples of an example share its mu and logvar, so their paths add. They are also added to the path through "
                "the KL, which was computed before. These are the lines:"
            ),
        ),
        f"{VAE}, sections 2.3 and 2.4",
    ),
    "gaussian_kl": Derivation(
        "The KL of two Gaussians in closed form",
        (
            Step(
                "The KL is the mean of log q - log p over z drawn from q. Both densities are products over the latents, so it is "
                "enough to look at one latent: q = N(mu, exp(logvar)), p = N(0, 1).",
                "KL(q(z|x) || p(z)) = int_z q(z|x) (log q(z|x) - log p(z))",
            ),
            Step(
                "In the difference of the logs, the constants log 2 pi cancel. A polynomial in z remains.",
                "log q(z|x) - log p(z) = 1/2 (z^2 - (z - mu)^2 / exp(logvar) - logvar)",
            ),
            Step("So only two means are needed. The first is the variance,", "E_q[(z - mu)^2] = exp(logvar)"),
            Step(
                "and the second is the variance plus the square of the mean. Inserted and summed over the latents, they give the "
                "line of the forward pass.",
                "E_q[z^2] = mu^2 + exp(logvar)",
            ),
            Step("The slope with respect to mu pulls mu towards 0,", "diff_mu (mu^2 / 2) = mu"),
            Step(
                "and the slope with respect to logvar pulls the variance towards 1.",
                "diff_logvar (1/2 (exp(logvar) - 1 - logvar)) = (exp(logvar) - 1) / 2",
            ),
            Step("The integral has removed z, so nothing is added to dz. dkl times the slopes are the lines:"),
        ),
        f"{VAE}, appendix B",
    ),
    "sampled_kl": Derivation(
        "The KL, estimated from the samples",
        (
            Step(
                "The KL is a mean over z drawn from q, so it can be estimated: compute log q - log p at the samples themselves. This "
                "works where no closed form is known, and the importance weights need it.",
                "KL(q(z|x) || p(z)) = E_q[log q(z|x) - log p(z)]",
            ),
            Step(
                "For one latent, this is the log-density of the encoder's Gaussian.",
                "log q(z|x) = -1/2 (log 2 pi + logvar + (z - mu)^2 / exp(logvar))",
            ),
            Step(
                "Its square is known from the draw, because z - mu = exp(logvar / 2) eps.", "(z - mu)^2 / exp(logvar) = eps^2"
            ),
            Step(
                "The prior has the mean 0 and the variance 1. The difference of the two, summed over the latents, is the line of the "
                "forward pass.",
                "log p(z) = -1/2 (log 2 pi + z^2)",
            ),
            Step(
                "eps is held fixed, so mu acts only through z. So dmu is 0 here, and the slope with respect to z, times dkl, is "
                "added to dz.",
                "diff_z (1/2 (z^2 - eps^2 - logvar)) = z",
            ),
            Step(
                "logvar, however, also acts directly, in every one of the samples.",
                "diff_logvar (1/2 (z^2 - eps^2 - logvar)) = -1/2",
            ),
            Step(
                "dkl times the slopes, summed over the samples of an example where these share what they read, are the lines:"
            ),
        ),
        f"{VAE}, eq. 6",
    ),
}
