"""The derivations of the estimators of the gradient by mu and logvar, other than the derivative of the loss itself."""

from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
    "path": Derivation(
        "The path through z alone, and its weight",
        (
            Step(
                "The derivative of the loss by mu and logvar has two parts. One goes along the path through z. The other is the "
                "score of q, the derivative of log q at a fixed z.",
                "diff_mu log N(z; mu, exp(logvar)) = (z - mu) / exp(logvar) = eps exp(-logvar / 2)",
            ),
            Step(
                "A density integrates to 1 whatever mu is, so the mean of the score over z is 0. In the ELBO every sample has the "
                "same weight: the score only adds noise and can be left out. Along the path, the slope of log q - log p remains.",
                "diff_z (log N(z; mu, exp(logvar)) - log N(z; 0, 1)) = z - eps exp(-logvar / 2)",
            ),
            Step(
                "If q is the posterior, this slope is opposite to the slope of nll: at beta = 1 the two add to 0 for every eps."
            ),
            Step(
                "In the importance-weighted bound, the factor of the score is beta w~, which depends on z. The mean of the product "
                "is not 0, and leaving it out gives a bias. But it is a mean of a score times a function of z, as in the "
                "derivation of the sample z, so it is the mean of the slope of that function along the path. That of w~ is "
                "w~ (1 - w~) times that of log w.",
                "diff_a (w_1 exp(a) / (w_1 exp(a) + w_2)) = w~ (1 - w~)",
            ),
            Step(
                "With the factor -w~ that the path has already, the slope of log w gets one factor for each sample. At beta = 1 it "
                "is the square of the weight.",
                "-w~ + beta w~ (1 - w~) = -w~ (1 - beta + beta w~)",
            ),
            Step("Every other estimator keeps the weight that the sample has in the loss. These are the lines:"),
        ),
        "Roeder, Wu & Duvenaud 2017 (arXiv 1703.09194); Tucker et al. 2018 (arXiv 1810.04152), for beta = 1",
        ("sampled_kl_path", "unit_path_weight", "dreg_path_weight"),
    ),
    "score": Derivation(
        "The score function",
        (
            Step(
                "The derivative of a mean over z is also the mean of f(z) times the score of q. No derivative of f is needed.",
                "diff_mu E_q[f(z)] = E_q[f(z) (z - mu) / exp(logvar)]",
            ),
            Step(
                "The score with respect to logvar",
                "diff_logvar log N(z; mu, exp(logvar)) = ((z - mu)^2 / exp(logvar) - 1) / 2 = (eps - 1) (eps + 1) / 2",
            ),
            Step(
                "The mean of the score is 0. So any number that does not depend on this z may be subtracted from f(z), and the mean "
                "stays the same. The mean loss of the other samples is such a number, and it is close to f(z): little noise "
                "is left.",
                "nll_1 - (-nll_1 + sum_l nll_l) / (L - 1) = L (nll_1 - mean_l nll_l) / (L - 1)",
            ),
            Step(
                "The loss of the importance-weighted bound depends on mu and logvar also through the log q in each log w. The "
                "slope of the loss with respect to this log q is beta w~, which is added.",
                "diff_kl_1 (-log mean_l exp(-(nll_l + beta kl_l))) = beta w_1 / sum_l w_l",
            ),
            Step("These factors of the score, and the score itself, are the lines:"),
        ),
        "Williams 1992 (Machine Learning 8, 229-256); Kool, van Hoof & Welling 2019, for the baseline of the other samples",
        ("score", "elbo_score", "iwae_score"),
    ),
    "vimco": Derivation(
        "A baseline for the importance-weighted bound",
        (
            Step(
                "The score function of the importance-weighted bound multiplies the score of every sample by the same loss, so the "
                "score of a sample is mixed with the noise of all the others. Each sample should have a baseline that does not "
                "depend on it, and is close to the loss."
            ),
            Step(
                "The loss would be that, if something took the place of the weight of this sample: a mean of the other weights. The "
                "geometric mean is the mean of their logarithms. It is at most the arithmetic mean.",
                "exp(mean_l log w_l) <= mean_l w_l",
            ),
            Step(
                "In the difference of two such losses, log L cancels.",
                "log mean_l w_l = log sum_l w_l - log L",
            ),
            Step(
                "The sum over the other samples is not computed as the sum over all less the own weight. Where one weight is nearly "
                "the whole sum, that difference would be 0, and its logarithm would be infinite. This is the line:"
            ),
        ),
        "Mnih & Rezende 2016 (arXiv 1602.06725)",
    ),
}
