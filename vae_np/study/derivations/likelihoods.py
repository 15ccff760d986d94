"""Likelihoods p(x|z)."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "bernoulli_nll": Derivation(
        "Pixels that are 0 or 1, from logits",
        (
            Step(
                "A pixel is 1 with a probability, here called mean, and else 0. One formula for both:",
                "-log p(x|z) = -x log mean - (1 - x) log(1 - mean)",
            ),
            Step(
                "A layer's output may be any number and a probability may not. So the output is taken for the log of the odds, "
                "the logit",
                "logits = log(mean / (1 - mean))",
            ),
            Step(
                "which solved for the mean gives the sigmoid, and by symmetry", "mean = sigmoid(logits) = 1 - sigmoid(-logits)"
            ),
            Step(
                "Put in, and summed over the pixels, this is the line of the forward pass. The code computes either log "
                "so: no probability is formed that could round to 0.",
                "-log sigmoid(logits) = max(-logits, 0) + log(1 + exp(-|logits|))",
            ),
            Step("The slopes of the two logs are simple,", "diff_logits (-log sigmoid(logits)) = -sigmoid(-logits)"),
            Step("each the probability of the other outcome,", "diff_logits (-log sigmoid(-logits)) = sigmoid(logits)"),
            Step(
                "and weighed by x and 1 - x they add up to what is predicted less what is seen.",
                "(1 - x) sigmoid(logits) - x sigmoid(-logits) = sigmoid(logits) - x",
            ),
            Step("dnll times the slope is the line:"),
        ),
        f"{VAE}, appendix C.1",
    ),
    "gaussian_nll": Derivation(
        "Why the Gaussian likelihood is the squared error",
        (
            Step(
                "The decoder gives the mean of each input, and noise, the log of its variance. The density is",
                "N(x; mean, exp(noise)) = exp(-(x - mean)^2 / (2 exp(noise))) / sqrt(2 pi exp(noise))",
            ),
            Step(
                "Minus its log undoes the exp: a square is left, and the constants that make it a density. Summed over the "
                "inputs, this is the line of the forward pass.",
                "-log N(x; mean, exp(noise)) = (x - mean)^2 exp(-noise) / 2 + noise / 2 + log(2 pi) / 2",
            ),
            Step(
                "With noise = 0 for all it is half the squared error and a number that nothing changes: to maximise this "
                "likelihood is least squares.",
                "-log N(x; mean, 1) = (x - mean)^2 / 2 + log(2 pi) / 2",
            ),
            Step(
                "The slope by the mean is the error, counted the more the less noise there is.",
                "diff_mean ((x - mean)^2 exp(-noise) / 2) = (mean - x) exp(-noise)",
            ),
            Step(
                "The slope by noise is 0 where the variance equals the squared error: noise learns how large "
                "errors are. A noise that all inputs share has a path through each, and they add.",
                "diff_noise (noise / 2 + (x - mean)^2 exp(-noise) / 2) = 1/2 (1 - (x - mean)^2 exp(-noise))",
            ),
            Step("dnll times the slopes are the lines:"),
        ),
        f"{VAE}, appendix C.2",
    ),
}
