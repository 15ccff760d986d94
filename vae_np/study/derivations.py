"""How the line of each operation follows from its definition, in steps that the tests hold to numbers.

Formulas are written as `vae_np.study.formulas` reads them. The last of each derivation is not here: it is that of the
operation's own docstring, to which the steps lead up.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """A sentence or two, and what they say as a formula."""

    words: str
    formula: str = ""


class Derivation(NamedTuple):
    """Of one operation, forward and backward."""

    title: str
    steps: tuple
    source: str


ADJOINT = "Griewank & Walther, Evaluating Derivatives, 2008, chapter 3"
KINGMA = "Kingma & Welling 2014 (arXiv 1312.6114)"

DERIVATIONS = {  # what the name of an operation begins with: its derivation. The first two stand before all
    "bound": Derivation(
        "Why the loss bounds −log p(x)",
        (
            Step(
                "The model draws z from p(z), and x from p(x|z). x is as probable as all z together make it.",
                "p(x) = int_z p(x|z) p(z)",
            ),
            Step(
                "Most z say nothing of this x. Let q(z|x) propose some that do; what it proposes too often counts for less.",
                "p(x) = E_q[p(x|z) p(z) / q(z|x)]",
            ),
            Step(
                "The logarithm bends downwards, so that its mean lies below the logarithm of the mean (Jensen's inequality).",
                "log p(x) >= E_q[log p(x|z) + log p(z) - log q(z|x)]",
            ),
            Step(
                "The last two terms are a distance from the prior, the KL. Their mean is taken off.",
                "KL(q || p) = E_q[log q(z|x) - log p(z)]",
            ),
            Step(
                "What the bound is too low by is again a KL, from q to the true posterior: a better q closes the gap. "
                "The bound with its sign turned, nll + KL, is the loss.",
                "log p(x) - (E_q[log p(x|z)] - KL(q || p)) = KL(q || p(z|x))",
            ),
        ),
        f"{KINGMA}, equations 1 to 3",
    ),
    "adjoint": Derivation(
        "What dname is, and why it flows backwards",
        (
            Step(
                "dv is the derivative of the loss by v: an array of v's shape, and in each element how much the loss "
                "rises for a small rise of that element of v.",
            ),
            Step(
                "Let a line compute y = f(v), and let the rest of the forward pass make the loss of y. The chain rule "
                "gives dv when dy is known, and so the lines are undone in the order opposite to that in which they "
                "ran.",
                "dv = dy diff_v f(v)",
            ),
            Step(
                "Where two lines read v, it reaches the loss along two paths, and their effects add. So a line that "
                "comes second adds to dv what its own path brings.",
                "diff_v (f(v) + g(v)) = diff_v f(v) + diff_v g(v)",
            ),
            Step(
                "A line's own slope, diff f, is all that its derivative need know. What the slope needs, the forward "
                "pass has saved.",
            ),
        ),
        ADJOINT,
    ),
    "affine": Derivation(
        "A layer: y = x W + b",
        (
            Step("Element by element, for one row:", "y_o = sum_i x_i W_io + b_o"),
            Step(
                "An input reaches the loss through every output, with the weight between them as its slope. These "
                "paths add: the rows of W have become columns, which is the transpose.",
                "dx_i = sum_o dy_o W_io",
            ),
            Step(
                "A weight is used once in every row r, with the row's input as its slope. The rows' parts add, which "
                "is a product with the transpose of x.",
                "dW_io = sum_r x_ri dy_ro",
            ),
            Step("A bias is used once in every row, with the slope 1.", "db_o = sum_r dy_ro"),
            Step(
                "The loss also holds half the squared weights times l2; its slope joins that of the layer.",
                "diff_W (l2 W^2 / 2) = l2 W",
            ),
        ),
        ADJOINT,
    ),
    "constant": Derivation(
        "A layer that does not look: y = b",
        (
            Step("x is not in y, so nothing of dy comes back to it."),
            Step("The bias stands in every row, with the slope 1; the rows' parts add.", "db_o = sum_r dy_ro"),
        ),
        ADJOINT,
    ),
    "relu": Derivation(
        "The activation max(0, y)",
        (
            Step(
                "It is y above 0 and flat below; at 0 itself the slope is taken as 0.",
                "diff_y max(0, y) = 1 where y > 0, else 0",
            ),
            Step("h is above 0 where y is, so that h, which is kept, tells as much as y."),
        ),
        "Glorot, Bordes & Bengio 2011",
    ),
    "tanh": Derivation(
        "The activation tanh",
        (
            Step("By its definition,", "tanh(y) = (exp(y) - exp(-y)) / (exp(y) + exp(-y))"),
            Step("The quotient rule gives", "diff_y tanh(y) = 1 - tanh(y)^2"),
            Step(
                "That is 1 - h^2, so that h is all that need be kept. Written as a product it loses no digit near h = 1.",
                "1 - h^2 = (1 - h) (1 + h)",
            ),
        ),
        ADJOINT,
    ),
    "softplus": Derivation(
        "The activation log(1 + exp(y))",
        (
            Step("A smooth max(0, y); its slope is the sigmoid.", "diff_y log(1 + exp(y)) = sigmoid(y)"),
            Step("With h = log(1 + exp(y)) kept, the slope is found again:", "sigmoid(y) = 1 - exp(-log(1 + exp(y)))"),
        ),
        "Dugas et al. 2001",
    ),
    "reparameterize": Derivation(
        "The sample, and why its randomness does not block the gradient",
        (
            Step(
                "What the loss needs is the slope of a mean over q(z|x), and q itself moves with mu: the slope of f "
                "alone is not it.",
                "diff_mu E_q[f(z)] = int_z f(z) diff_mu q(z; mu)",
            ),
            Step(
                "But a draw from N(mu, exp(logvar)) is a draw eps from N(0, 1), stretched by the standard deviation "
                "and moved by the mean. eps depends on no parameter, so the slope may be taken inside of the mean.",
                "diff_mu E_q[f(z)] = E_eps[diff_mu f(mu + exp(logvar / 2) eps)]",
            ),
            Step(
                "For a given eps, z is a plain function of mu and logvar: nothing random stands between z and them. "
                "Its slopes are",
                "diff_mu (mu + exp(logvar / 2) eps) = 1",
            ),
            Step("and", "diff_logvar (mu + exp(logvar / 2) eps) = eps exp(logvar / 2) / 2"),
            Step(
                "The L samples of an example share its mu and logvar: what comes through each of them adds. It adds, "
                "too, to what came through the KL.",
            ),
        ),
        f"{KINGMA}, section 2.4; Rezende, Mohamed & Wierstra 2014",
    ),
    "gaussian_kl": Derivation(
        "The KL of two Gaussians, from the integral",
        (
            Step(
                "The latents are independent under both, so the KL is a sum over them. For one,",
                "KL(q || p) = int_z q(z|x) (log q(z|x) - log p(z))",
            ),
            Step("q is N(mu, exp(logvar)), and", "log q(z|x) = -1/2 (log 2 pi + logvar + (z - mu)^2 exp(-logvar))"),
            Step("the prior is N(0, 1),", "log p(z) = -1/2 (log 2 pi + z^2)"),
            Step(
                "Of the squares only the means under q are needed. That of (z - mu)^2 is the variance, so the one term leaves 1,",
                "E_q[(z - mu)^2 exp(-logvar)] = 1",
            ),
            Step("and the other the variance and the squared mean.", "E_q[z^2] = mu^2 + exp(logvar)"),
            Step(
                "Half of what is left, mu^2 + exp(logvar) - 1 - logvar, is the KL. Its slopes are",
                "diff_mu ((mu^2 + exp(logvar) - 1 - logvar) / 2) = mu",
            ),
            Step("and", "diff_logvar ((mu^2 + exp(logvar) - 1 - logvar) / 2) = (exp(logvar) - 1) / 2"),
        ),
        f"{KINGMA}, appendix B",
    ),
    "sampled_kl": Derivation(
        "The KL from the samples themselves",
        (
            Step(
                "Its mean over q is the KL. With z = mu + exp(logvar / 2) eps, the square in log q(z|x) is that of eps,",
                "(z - mu)^2 exp(-logvar) = eps^2",
            ),
            Step("so the two logarithms differ by", "log q(z|x) - log p(z) = (z^2 - eps^2 - logvar) / 2"),
            Step(
                "A difference of squares, as a product, keeps its digits where z is near eps.",
                "z^2 - eps^2 = (z - eps) (z + eps)",
            ),
            Step("mu is in it only through z. There its slope is", "diff_z ((z^2 - eps^2 - logvar) / 2) = z"),
            Step("logvar is in it directly, too, once for each sample.", "diff_logvar ((z^2 - eps^2 - logvar) / 2) = -1/2"),
        ),
        f"{KINGMA}, equation 6",
    ),
    "bernoulli_nll": Derivation(
        "Black or white pixels, from their logits",
        (
            Step("A pixel is 1 with probability s, and 0 else.", "log p(x|z) = x log s + (1 - x) log(1 - s)"),
            Step("The decoder gives a logit l, any number, and s = sigmoid(l). Then", "1 - sigmoid(l) = sigmoid(-l)"),
            Step("No probability need be formed, which could round to 0 or 1:", "-log sigmoid(l) = log(1 + exp(-l))"),
            Step("and taken like this nothing overflows:", "log(1 + exp(-l)) = max(-l, 0) + log(1 + exp(-|l|))"),
            Step(
                "The slopes of the two terms join to a plain difference: how much brighter the pixel was thought than it is.",
                "diff_l (-x log sigmoid(l) - (1 - x) log sigmoid(-l)) = sigmoid(l) - x",
            ),
        ),
        f"{KINGMA}, appendix C.1",
    ),
    "gaussian_nll": Derivation(
        "The Gaussian likelihood, and why it is the squared error",
        (
            Step(
                "x is N(m, exp(n)): m is the decoder's mean, n the log-variance, the noise.",
                "p(x|z) = exp(-(x - m)^2 exp(-n) / 2) / sqrt(2 pi exp(n))",
            ),
            Step("Its logarithm, with the sign turned:", "-log p(x|z) = 1/2 (log 2 pi + n + (x - m)^2 exp(-n))"),
            Step(
                "With the variance 1, n = 0, that is half the squared error, and a constant which no gradient sees: "
                "who minimises squared error says that x has Gaussian noise of variance 1.",
                "1/2 (log 2 pi + 0 + (x - m)^2 exp(0)) = (x - m)^2 / 2 + log 2 pi / 2",
            ),
            Step(
                "The slope by the mean is the error, the less the noisier x is thought,",
                "diff_m (1/2 (log 2 pi + n + (x - m)^2 exp(-n))) = (m - x) exp(-n)",
            ),
            Step(
                "and that by the noise is 0 where the squared error is what the noise says.",
                "diff_n (1/2 (log 2 pi + n + (x - m)^2 exp(-n))) = 1/2 (1 - (x - m)^2 exp(-n))",
            ),
        ),
        f"{KINGMA}, appendix C.2",
    ),
    "elbo": Derivation(
        "The mean over samples",
        (
            Step("The mean over q is estimated by that of L draws; on average it is right.", "E_q[mean_l f(z)] = E_q[f(z)]"),
            Step(
                "Each of L samples of each of B examples has the same share of the loss, 1 / (L B), and each KL its "
                "own, times beta.",
            ),
        ),
        f"{KINGMA}, equation 7; Higgins et al. 2017 for beta",
    ),
    "iwae": Derivation(
        "Importance weights: a tighter bound, by log-sum-exp",
        (
            Step("The mean of the weights w = p(x|z) p(z) / q(z|x) is p(x) itself.", "E_q[p(x|z) p(z) / q(z|x)] = p(x)"),
            Step(
                "So the logarithm of the mean of L of them is, on average, below log p(x), the less the larger L is: "
                "their mean varies less. In nll and kl = log q(z|x) - log p(z), a weight is",
                "p(x|z) p(z) / q(z|x) = exp(-(nll + kl))",
            ),
            Step(
                "Weights may be as small as exp(-1000). Any t can be taken out; with the largest log w for t, no exp is above 1.",
                "log mean_l w_l = t + log mean_l exp(log w_l - t)",
            ),
            Step(
                "The slope of the logarithm of a sum, by one log w, is that one's share of the sum,",
                "diff_u log(exp(u) + exp(v)) = exp(u) / (exp(u) + exp(v))",
            ),
            Step(
                "so in place of 1 / L each sample has its own weight, w~, in the gradient: those that explain x "
                "better count for more.",
            ),
        ),
        "Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), equations 8 and 14",
    ),
}
