"""Two derivations that concern every line: the bound on -log p(x), and the chain rule."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "bound": Derivation(
        "Why the loss is a bound on -log p(x)",
        (
            Step(
                "The model draws z from p(z) and then x from p(x|z). We see only x, so its probability is an integral over every "
                "z that could have produced it.",
                "p(x) = int_z p(x|z) p(z)",
            ),
            Step(
                "Most z explain this x badly. So we multiply and divide by a density q(z|x) that prefers the z that explain x "
                "well: the integral becomes a mean over z drawn from q.",
                "p(x) = int_z q(z|x) p(x|z) p(z) / q(z|x) = E_q[p(x|z) p(z) / q(z|x)]",
            ),
            Step(
                "The logarithm is concave, so the log of a mean is at least the mean of the logs (Jensen's inequality). With the "
                "minus sign, it is at most.",
                "-log p(x) <= E_q[-log(p(x|z) p(z) / q(z|x))]",
            ),
            Step(
                "The log of the fraction splits into two terms: the cost of x when z is known, and the divergence of q from the "
                "prior. For one sample, the first term is nll and the second is kl.",
                "E_q[-log(p(x|z) p(z) / q(z|x))] = E_q[-log p(x|z)] + KL(q(z|x) || p(z))",
            ),
            Step(
                "The gap between the bound and -log p(x) is the KL from q to the true posterior: the better the encoder, the "
                "tighter the bound.",
                "E_q[-log p(x|z)] + KL(q(z|x) || p(z)) = -log p(x) + KL(q(z|x) || p(z|x))",
            ),
            Step("So a lower loss means that log p(x) is higher, that q is closer to p(z|x), or both."),
        ),
        f"{VAE}, eq. 1 to 3",
    ),
    "adjoint": Derivation(
        "What dx stands for, and why derivatives are computed backwards",
        (
            Step(
                "One line of the model computes y = g(x). All the lines after it, taken together, compute the loss from y.",
                "loss = f(g(x))",
            ),
            Step(
                "Let dy be the derivative of the loss with respect to y: how much the loss changes when y changes by one unit. "
                "It has the shape of y, with one element for each element of y.",
                "dy = diff_y f(y)",
            ),
            Step(
                "By the chain rule, dx depends on the lines after this one only through dy. The other factor is the derivative of "
                "the line itself.",
                "dx = diff_x f(g(x)) = dy diff_x g(x)",
            ),
            Step(
                "dx can be computed only when dy is known. So we start from the loss, whose derivative with respect to itself is "
                "1, and go through the lines from the last to the first. Each line is differentiated on its own."
            ),
            Step(
                "If two lines read x, a change of x reaches the loss along two paths, and to first order the two effects add. "
                "This is why some formulas have +=, and why the names of some operations end in _add.",
                "diff_x f(g_1(x), g_2(x)) = dy_1 diff_x g_1(x) + dy_2 diff_x g_2(x)",
            ),
            Step(
                "The elements of an array are paths, too: x_i has one path through each y_o that depends on it. The sum over o is "
                "the product with the transposed matrix of slopes.",
            ),
        ),
        "Rumelhart, Hinton & Williams 1986 (Nature 323, 533-536)",
    ),
}
