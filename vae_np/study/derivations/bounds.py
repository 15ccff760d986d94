"""The derivations of the bounds, which say how much each sample counts in the loss."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
    "elbo": Derivation(
        "The bound, estimated from L samples",
        (
            Step(
                "The bound is a mean over q. The mean over L samples estimates it without bias, whatever L is: one sample is enough.",
                "E_q[mean_l nll_l] = E_q[nll]",
            ),
            Step(
                "At beta = 1 this is the bound on -log p(x). Another beta gives the KL another weight: below 1 the model becomes "
                "more like a plain autoencoder, above 1 q is pulled more strongly towards the prior."
            ),
            Step("Every sample has the same weight in the loss of its example.", "diff_nll_1 mean_l nll_l = 1 / L"),
            Step(
                "So has every kl, of which there is one per example or one per sample.",
                "diff_kl_1 (beta mean_k kl_k) = beta / K",
            ),
            Step(
                "The loss is the mean over the examples. The division by n_examples happens here and nowhere else. These are the lines:"
            ),
        ),
        f"{VAE}, eq. 6 and 10; beta: Higgins et al. 2017",
    ),
    "iwae": Derivation(
        "The importance-weighted bound, by log-sum-exp",
        (
            Step(
                "Let w be the weight of a z that was drawn from q. The mean of w is the probability of x.",
                "E_q[w] = E_q[p(x|z) p(z) / q(z|x)] = p(x)",
            ),
            Step(
                "At beta = 1, the log of w consists of terms that are already computed.",
                "log w = log p(x|z) - (log q(z|x) - log p(z)) = -(nll + kl)",
            ),
            Step(
                "The average of L weights has the same mean as one weight but varies less, so Jensen's inequality loses less: the "
                "bound is at least as tight as the ELBO.",
                "-log p(x) <= E_q[-log mean_l w_l] <= E_q[-mean_l log w_l]",
            ),
            Step(
                "log w can be as low as -1000, where exp rounds to 0. So the code first subtracts the largest of them, called top. "
                "After that, the largest exp is 1.",
                "log mean_l w_l = top + log mean_l exp(log w_l - top)",
            ),
            Step(
                "The derivative of the log divides by the sum: each sample counts by its share of the total weight. In the ELBO, "
                "each sample has the share 1 / L.",
                "diff_nll_1 (-log mean_l exp(-(nll_l + beta kl_l))) = w_1 / sum_l w_l",
            ),
            Step(
                "The kl is added to the nll with the factor beta, so its derivative has the same factor.",
                "diff_kl_1 (-log mean_l exp(-(nll_l + beta kl_l))) = beta w_1 / sum_l w_l",
            ),
            Step(
                "The share is a softmax of the log weights. The mean over the examples divides by n_examples. These are the lines:"
            ),
        ),
        "Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8 and 14",
    ),
}
