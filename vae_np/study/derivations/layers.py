"""The derivations of the layers: the affine layer, and the layer that is a constant."""

from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
    "affine": Derivation(
        "A layer's matrix product and its three derivatives",
        (
            Step("Each output is a weighted sum of all inputs, plus a bias.", "y_o = sum_i x_i W_io + b_o"),
            Step(
                "x_i reaches the loss through every y_o, with the slope W_io, and these paths add. As a product of matrices this is "
                "dy @ W.T: the transpose makes the sum run over o.",
                "dx_i = sum_o dy_o W_io",
            ),
            Step(
                "W_io reaches the loss through y_o alone, with the slope x_i. But it does so in every row n to which the layer is "
                "applied, and each sample of each example is a row. The sum over the rows is x.T @ dy.",
                "dW_io = sum_n x_ni dy_no",
            ),
            Step("b_o also acts in every row, with the slope 1.", "db_o = sum_n dy_no"),
            Step(
                "The penalty on large weights is a second path from W to the loss, and its derivative is added.",
                "diff_W (l2 / 2 W^2) = l2 W",
            ),
            Step("For all elements together, these are the lines:"),
        ),
        "Rumelhart, Hinton & Williams 1986 (Nature 323, 533-536), for one row",
    ),
    "constant": Derivation(
        "A layer that ignores its input",
        (
            Step(
                "A log-variance that is the same for all z is a layer without weights: its output is b for every x.",
                "y_o = b_o",
            ),
            Step(
                "A change of x does not change the output. So no derivative flows back to x, and the line adds 0 to dx.",
                "diff_x b = 0",
            ),
            Step("b acts in every row with the slope 1, like any bias.", "diff_b b = 1"),
            Step("The sum over the rows is the line:"),
        ),
        "the chain rule",
    ),
}
