"""Bounds: what each sample weighs in the loss."""

from vae_np.study.derivations.derivation import VAE, Derivation, Step

DERIVATIONS = {
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
