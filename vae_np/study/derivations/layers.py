"""Layers without an activation."""

from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
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
}
