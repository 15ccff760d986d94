"""What holds for every line: the bound, and how derivatives flow backwards."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

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
}
