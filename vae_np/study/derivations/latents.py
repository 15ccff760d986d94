"""The sample z and the two forms of the KL."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "reparameterize": Derivation(
        "How a gradient passes through a random sample",
        (
            Step(
                "The loss holds a mean over z drawn from q, and mu and logvar are the parameters of q. Here f stands for all "
                "that the loss makes of z.",
                "E_q[f(z)] = int_z N(z; mu, exp(logvar)) f(z)",
            ),
            Step(
                "Once drawn, a z is just a number, and says nothing of how another mu would have moved it. One may differentiate "
                "the density instead: this score-function estimator is right on average, but very noisy.",
                "diff_mu E_q[f(z)] = E_q[f(z) (z - mu) / exp(logvar)]",
            ),
            Step(
                "Better: draw eps from N(0, 1), then shift and stretch it. A Gaussian stays one, and its mean is now mu, its "
                "standard deviation exp(logvar / 2): z has the same density as before.",
                "E_q[f(z)] = E_eps[f(mu + exp(logvar / 2) eps)]",
            ),
            Step(
                "Now no parameter stands in the density that is drawn from, so that the derivative passes into the mean: to "
                "differentiate, an eps that was drawn is held fixed like any input. The randomness blocks nothing.",
                "diff_mu E_eps[f(mu + exp(logvar / 2) eps)] = E_eps[diff_mu f(mu + exp(logvar / 2) eps)]",
            ),
            Step("What remains is the slope of z by mu", "diff_mu (mu + exp(logvar / 2) eps) = 1"),
            Step("and by logvar.", "diff_logvar (mu + exp(logvar / 2) eps) = eps exp(logvar / 2) / 2"),
            Step(
                "All L samples of an example share its mu and logvar, so that their paths add; and they join the path "
                "through the KL, which is there already. These are the lines:"
            ),
        ),
        f"{VAE}, sections 2.3 and 2.4",
    ),
    "gaussian_kl": Derivation(
        "The KL of two Gaussians, from the integral",
        (
            Step(
                "The KL is the mean under q of log q - log p. Both are products over the latents, so take one latent: "
                "q = N(mu, exp(logvar)), p = N(0, 1).",
                "KL(q(z|x) || p(z)) = int_z q(z|x) (log q(z|x) - log p(z))",
            ),
            Step(
                "In the difference of the logs the constants log 2 pi cancel, and polynomials in z remain.",
                "log q(z|x) - log p(z) = 1/2 (z^2 - (z - mu)^2 / exp(logvar) - logvar)",
            ),
            Step("So two means are all that is needed. One is the variance", "E_q[(z - mu)^2] = exp(logvar)"),
            Step(
                "and the other is the variance and the square of the mean. Put in, and summed over the latents, they give the "
                "line of the forward pass.",
                "E_q[z^2] = mu^2 + exp(logvar)",
            ),
            Step("Its slope by mu pulls mu to 0", "diff_mu (mu^2 / 2) = mu"),
            Step(
                "and its slope by logvar pulls the variance to 1.",
                "diff_logvar (1/2 (exp(logvar) - 1 - logvar)) = (exp(logvar) - 1) / 2",
            ),
            Step("z is integrated out, so that its derivative takes nothing. dkl times the slopes are the lines:"),
        ),
        f"{VAE}, appendix B",
    ),
    "sampled_kl": Derivation(
        "The KL from the samples",
        (
            Step(
                "The KL is a mean over z drawn from q, so that what is averaged can be computed at the samples themselves. "
                "This serves where no integral is known, and the importance weights need it.",
                "KL(q(z|x) || p(z)) = E_q[log q(z|x) - log p(z)]",
            ),
            Step(
                "The encoder's Gaussian, for one latent, is",
                "log q(z|x) = -1/2 (log 2 pi + logvar + (z - mu)^2 / exp(logvar))",
            ),
            Step("where the square is known from the draw: z - mu is exp(logvar / 2) eps.", "(z - mu)^2 / exp(logvar) = eps^2"),
            Step(
                "The prior has mean 0 and variance 1. The difference, summed over the latents, is the line of the forward pass.",
                "log p(z) = -1/2 (log 2 pi + z^2)",
            ),
            Step(
                "eps is fixed, so that mu acts through z alone: here dmu is 0, and the slope by z, times dkl, goes the way of "
                "the sample",
                "diff_z (1/2 (z^2 - eps^2 - logvar)) = z",
            ),
            Step(
                "while logvar also acts directly, in every one of the samples.",
                "diff_logvar (1/2 (z^2 - eps^2 - logvar)) = -1/2",
            ),
            Step("dkl times the slopes, summed where samples share what they act on, are the lines:"),
        ),
        f"{VAE}, eq. 6",
    ),
}
