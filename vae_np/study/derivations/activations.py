"""Hidden layers' activations."""

from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
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
}
