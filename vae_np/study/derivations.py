"""From its definition to its line: a short derivation for each operation, in the language of `formulas`.

The last step leads up to the operation's own formula and code, which stand in `kernels.reference` and not here again. The
tests evaluate both sides of every formula.
"""

import re
from typing import NamedTuple


class Step(NamedTuple):
    """What is done, and what it gives. In a formula d name is the derivative of the loss, and diff_name any derivative."""

    sentence: str
    formula: str | None = None


class Derivation(NamedTuple):
    """The steps from a definition to a line, and where they are published."""

    title: str
    steps: tuple
    source: str


def stem(operation):
    """The key in DERIVATIONS of an operation, by its name: a forward and its derivative have one."""
    name = re.sub("_(backward|backward_add|gradients)$", "", operation).replace("_mean", "_nll")
    return name.removeprefix("affine_")


VAE = "Kingma & Welling 2014 (arXiv 1312.6114)"
DERIVATIONS = {
    "bound": Derivation(
        "Why the loss bounds -log p(x)",
        (
            Step(
                "The model draws z from p(z) and then x from p(x|z). Only x is seen, so its probability is an integral over "
                "every z that may have made it.",
                "p(x) = int_z p(x|z) p(z)",
            ),
            Step(
                "Most z explain this x badly. Any density q(z|x) that looks where the good ones are may be multiplied and "
                "divided by: the integral becomes a mean over z drawn from q.",
                "p(x) = int_z q(z|x) p(x|z) p(z) / q(z|x) = E_q[p(x|z) p(z) / q(z|x)]",
            ),
            Step(
                "The logarithm is concave, so that the log of a mean is at least the mean of the logs (Jensen's inequality); "
                "with the minus sign, at most.",
                "-log p(x) <= E_q[-log(p(x|z) p(z) / q(z|x))]",
            ),
            Step(
                "The log of the fraction falls into two: what x costs once z is known, and how far q is from the prior. "
                "Per sample the first is nll, the second kl.",
                "E_q[-log(p(x|z) p(z) / q(z|x))] = E_q[-log p(x|z)] + KL(q(z|x) || p(z))",
            ),
            Step(
                "What the bound gives away is the KL from q to the true posterior: the better the encoder, the tighter.",
                "E_q[-log p(x|z)] + KL(q(z|x) || p(z)) = -log p(x) + KL(q(z|x) || p(z|x))",
            ),
            Step("So lowering the loss raises log p(x), draws q towards p(z|x), or does both."),
        ),
        f"{VAE}, eq. 1 to 3",
    ),
    "adjoint": Derivation(
        "What dname is, and why it flows backwards",
        (
            Step(
                "At some line the model computes y = g(x); all that comes after, taken together, makes the loss of it.",
                "loss = f(g(x))",
            ),
            Step(
                "Write dy for the derivative of the loss by y: how much the loss changes for each unit that y does. "
                "It has y's shape, an element for each of y's.",
                "dy = diff_y f(y)",
            ),
            Step(
                "By the chain rule, of all that comes after, dx needs to know only dy. The line's own derivative does the rest.",
                "dx = diff_x f(g(x)) = dy diff_x g(x)",
            ),
            Step(
                "dy must be there before dx can be. So the lines are read upwards, from the loss, whose derivative by itself "
                "is 1; each line is differentiated alone."
            ),
            Step(
                "Where two lines read x, a change of x reaches the loss on two paths, and to first order their effects add. "
                "This is what += and the operations named _add are for.",
                "diff_x f(g_1(x), g_2(x)) = dy_1 diff_x g_1(x) + dy_2 diff_x g_2(x)",
            ),
            Step(
                "The elements of an array are paths too: x_i has as many as there are y_o that depend on it, and the sum over o "
                "is the product with the transposed matrix of slopes.",
            ),
        ),
        "Rumelhart, Hinton & Williams 1986 (Nature 323, 533-536)",
    ),
    "affine": Derivation(
        "A layer's product and its three derivatives",
        (
            Step("Each output is a weighted sum of all inputs, and a bias.", "y_o = sum_i x_i W_io + b_o"),
            Step(
                "x_i reaches the loss through every y_o, with slope W_io: the paths add. As a product of matrices this is "
                "dy @ W.T, where the transpose puts the sum on o.",
                "dx_i = sum_o dy_o W_io",
            ),
            Step(
                "W_io reaches it through y_o alone, with slope x_i, but does so in every row n that the layer is used for: "
                "each sample of each example. The sum over rows is x.T @ dy.",
                "dW_io = sum_n x_ni dy_no",
            ),
            Step("b_o also acts in every row, with slope 1.", "db_o = sum_n dy_no"),
            Step(
                "The penalty on large weights is a second path from W to the loss, and its derivative adds.",
                "diff_W (l2 / 2 W^2) = l2 W",
            ),
            Step("With all elements together, these are the lines:"),
        ),
        "Rumelhart, Hinton & Williams 1986 (Nature 323, 533-536), for one row",
    ),
    "constant": Derivation(
        "A layer that does not look at its input",
        (
            Step(
                "A log-variance that all z share is a layer without weights: whatever x is, its output is b.",
                "y_o = b_o",
            ),
            Step("A change of x changes nothing, so that nothing flows back to it: zero is added to dx.", "diff_x b = 0"),
            Step("b acts in every row with slope 1, as any bias does.", "diff_b b = 1"),
            Step("The sum over the rows is the line:"),
        ),
        "the chain rule",
    ),
    "relu": Derivation(
        "The rectifier",
        (
            Step("y passes where it is positive, and else nothing does.", "h = y where y > 0, else 0"),
            Step("So the slope is 1 or 0.", "diff_y max(0, y) = 1 where y > 0, else 0"),
            Step(
                "h is positive just where y is. So h tells the slope, and y need not be kept.",
                "diff_y max(0, y) = 1 where h > 0, else 0",
            ),
            Step(
                "At y = 0 there is no derivative, and any slope from 0 to 1 is as good; 0 is taken. dh times the slope is the "
                "line:"
            ),
        ),
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
    ),
    "tanh": Derivation(
        "The hyperbolic tangent",
        (
            Step("By definition:", "tanh(y) = (exp(y) - exp(-y)) / (exp(y) + exp(-y))"),
            Step(
                "The derivative of the numerator is the denominator, and the other way round: by the quotient rule",
                "diff_y tanh(y) = 1 - (exp(y) - exp(-y))^2 / (exp(y) + exp(-y))^2",
            ),
            Step("where h itself stands again, so that y need not be kept.", "diff_y tanh(y) = 1 - h^2"),
            Step(
                "The code has the product, which loses no digit where h is close to 1 or -1.",
                "1 - h^2 = (1 - h) (1 + h)",
            ),
            Step("dh times the slope is the line:"),
        ),
        "calculus",
    ),
    "softplus": Derivation(
        "The soft rectifier",
        (
            Step(
                "It is a smooth max(0, y). The code has the second form: its exp is never above 1, so it cannot overflow.",
                "log(1 + exp(y)) = max(y, 0) + log(1 + exp(-|y|))",
            ),
            Step("By the chain rule its slope is the sigmoid.", "diff_y log(1 + exp(y)) = exp(y) / (1 + exp(y)) = sigmoid(y)"),
            Step(
                "With exp(h) = 1 + exp(y), the slope follows from h itself, and y need not be kept. The code has expm1, which "
                "keeps every digit where h is small.",
                "sigmoid(y) = 1 - 1 / (1 + exp(y)) = 1 - 1 / exp(h)",
            ),
            Step("dh times the slope is the line:"),
        ),
        "Dugas, Bengio, Belisle, Nadeau & Garcia 2001",
    ),
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
    "elbo": Derivation(
        "The bound from L samples",
        (
            Step(
                "The bound is a mean over q. The mean of L samples estimates it, without bias for any L, and one sample will do.",
                "E_q[mean_l nll_l] = E_q[nll]",
            ),
            Step(
                "At beta = 1 it is the bound on -log p(x). Another beta weighs the KL differently: below 1 towards a plain "
                "autoencoder, above 1 towards the prior."
            ),
            Step("So every sample weighs the same in its example's loss", "diff_nll_1 mean_l nll_l = 1 / L"),
            Step(
                "and so does every kl, of which there is one, or one for each sample.",
                "diff_kl_1 (beta mean_k kl_k) = beta / K",
            ),
            Step(
                "The loss is the mean over the examples, which divides by n_examples, here and nowhere else. These are the lines:"
            ),
        ),
        f"{VAE}, eq. 6 and 10; beta: Higgins et al. 2017",
    ),
    "iwae": Derivation(
        "The importance-weighted bound, by log-sum-exp",
        (
            Step(
                "For a z drawn from q, call w its weight. On average it is the probability of x.",
                "E_q[w] = E_q[p(x|z) p(z) / q(z|x)] = p(x)",
            ),
            Step("Its log is known already: at beta = 1", "log w = log p(x|z) - (log q(z|x) - log p(z)) = -(nll + kl)"),
            Step(
                "The average of L weights has the same mean and varies less, so that Jensen's inequality gives less away: the "
                "bound is at least as tight as the ELBO.",
                "-log p(x) <= E_q[-log mean_l w_l] <= E_q[-mean_l log w_l]",
            ),
            Step(
                "log w may be -1000, of which exp rounds to 0. So the largest of them, top, is taken out first: then the "
                "largest exp is 1.",
                "log mean_l w_l = top + log mean_l exp(log w_l - top)",
            ),
            Step(
                "The log's derivative divides by the sum: each sample counts by its share of all the weight, where the ELBO "
                "gave each 1 / L.",
                "diff_nll_1 (-log mean_l exp(-(nll_l + beta kl_l))) = w_1 / sum_l w_l",
            ),
            Step(
                "The kl stands beside the nll with the factor beta, and so its derivative has that factor too.",
                "diff_kl_1 (-log mean_l exp(-(nll_l + beta kl_l))) = beta w_1 / sum_l w_l",
            ),
            Step(
                "The share is a softmax of the log weights, and the mean over the examples divides by n_examples. These are "
                "the lines:"
            ),
        ),
        "Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8 and 14",
    ),
}
