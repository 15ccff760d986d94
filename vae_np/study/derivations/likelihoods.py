"""The derivations of the likelihoods p(x|z)."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "bernoulli_nll": Derivation(
        "Pixels that are 0 or 1, from logits",
        (
            Step(
                "A pixel is 1 with a certain probability, called mean here, and otherwise it is 0. One formula covers both cases.",
                "-log p(x|z) = -x log mean - (1 - x) log(1 - mean)",
            ),
            Step(
                "The output of a layer can be any number, but a probability cannot. So the output is taken to be the log of the "
                "odds, which is called the logit.",
                "logits = log(mean / (1 - mean))",
            ),
            Step(
                "Solved for the mean, this is the sigmoid. The second form follows by symmetry.",
                "mean = sigmoid(logits) = 1 - sigmoid(-logits)",
            ),
            Step(
                "Inserted and summed over the pixels, this gives the line of the forward pass. The code computes each log in the "
                "following form, which contains no probability that could round to 0.",
                "-log sigmoid(logits) = max(-logits, 0) + log(1 + exp(-|logits|))",
            ),
            Step("The slopes of the two logs are simple:", "diff_logits (-log sigmoid(logits)) = -sigmoid(-logits)"),
            Step(
                "up to its sign, each is the probability of the other outcome.",
                "diff_logits (-log sigmoid(-logits)) = sigmoid(logits)",
            ),
            Step(
                "Weighted with x and 1 - x, they add up to the predicted value minus the observed one.",
                "(1 - x) sigmoid(logits) - x sigmoid(-logits) = sigmoid(logits) - x",
            ),
            Step("dnll times the slope is the line:"),
        ),
        f"{VAE}, appendix C.1",
        ("bernoulli_nll", "bernoulli_mean"),
    ),
    "gaussian_nll": Derivation(
        "Why the Gaussian likelihood leads to the squared error",
        (
            Step(
                "The decoder computes the mean of each input, and output_logvar, the log of its variance. This is the density.",
                "N(x; mean, exp(output_logvar)) = exp(-(x - mean)^2 / (2 exp(output_logvar))) / sqrt(2 pi exp(output_logvar))",
            ),
            Step(
                "Minus the log removes the exp: what remains is a square, and the terms that normalise the density. Summed over the "
                "inputs, this is the line of the forward pass.",
                "-log N(x; mean, exp(output_logvar)) = (x - mean)^2 exp(-output_logvar) / 2 + output_logvar / 2 + log(2 pi) / 2",
            ),
            Step(
                "If output_logvar is 0 everywhere, this is half the squared error plus a constant. So to maximise this likelihood is "
                "to minimise the squared error.",
                "-log N(x; mean, 1) = (x - mean)^2 / 2 + log(2 pi) / 2",
            ),
            Step(
                "The slope with respect to the mean is the error divided by the variance: the smaller the variance, the more an "
                "error counts.",
                "diff_mean ((x - mean)^2 exp(-output_logvar) / 2) = (mean - x) exp(-output_logvar)",
            ),
            Step(
                "The slope with respect to output_logvar is 0 where the variance equals the squared error, so the model learns how "
                "large its errors are. A log-variance that all inputs share has one path through each input, and these paths add.",
                "diff_output_logvar (output_logvar / 2 + (x - mean)^2 exp(-output_logvar) / 2) = 1/2 (1 - (x - mean)^2 exp(-output_logvar))",
            ),
            Step("dnll times the slopes are the lines:"),
        ),
        f"{VAE}, appendix C.2",
        ("gaussian_nll", "gaussian_mean"),
    ),
    "continuous_bernoulli_nll": Derivation(
        "Pixels of any grey: the continuous Bernoulli distribution",
        (
            Step(
                "For a grey x the Bernoulli formula is not a density: its integral over x from 0 to 1 is not 1. A density is "
                "proportional to exp(x logits), and the integral of that is known.",
                "int_x exp(x logits) = (exp(logits) - 1) / logits",
            ),
            Step(
                "Divided by the integral, it is a density. Minus its log, summed over the pixels, is the line of the forward pass.",
                "-log(exp(x logits) / int_x exp(x logits)) = log((exp(logits) - 1) / logits) - x logits",
            ),
            Step(
                "The code takes l / 2 out of the logarithm. The rest is an even function, whose series keeps every digit near 0.",
                "log((exp(logits) - 1) / logits) = logits / 2 + log(sinh(logits / 2) / (logits / 2))",
            ),
            Step(
                "The slope of the log of the integral is the mean of x, because the slope of exp(x logits) is x exp(x logits).",
                "diff_logits log((exp(logits) - 1) / logits) = 1 / (1 - exp(-logits)) - 1 / logits",
            ),
            Step(
                "This is the same mean in a form whose two fractions nearly cancel near 0. There the code uses a series again.",
                "1 / (1 - exp(-logits)) - 1 / logits = 1/2 + 1 / (2 tanh(logits / 2)) - 1 / logits",
            ),
            Step("The slope of -x logits is -x. So dnll times the predicted mean minus the observed x is the line:"),
        ),
        "Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli (arXiv 1907.06845)",
        ("continuous_bernoulli_nll", "continuous_bernoulli_mean"),
    ),
}
