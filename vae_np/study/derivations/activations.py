"""The derivations of the activations h = f(y) of the hidden layers."""

from vae_np.study.derivations.derivation import Derivation, Step

DERIVATIONS = {
    "relu": Derivation(
        "The rectifier (ReLU)",
        (
            Step("A positive y passes unchanged. Any other y becomes 0.", "h = y where y > 0, else 0"),
            Step("So the slope is 1 or 0.", "diff_y max(0, y) = 1 where y > 0, else 0"),
            Step(
                "h is positive exactly where y is positive. So the slope can be computed from h, and y need not be kept.",
                "diff_y max(0, y) = 1 where h > 0, else 0",
            ),
            Step(
                "At y = 0 there is no derivative, and any slope from 0 to 1 is a valid choice. This program takes 0. dh times the "
                "slope is the line:"
            ),
        ),
        "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks",
        ("affine_relu", "relu"),
    ),
    "tanh": Derivation(
        "The hyperbolic tangent",
        (
            Step("This is the definition.", "tanh(y) = (exp(y) - exp(-y)) / (exp(y) + exp(-y))"),
            Step(
                "The derivative of the numerator is the denominator, and the derivative of the denominator is the numerator. So the "
                "quotient rule gives this slope.",
                "diff_y tanh(y) = 1 - (exp(y) - exp(-y))^2 / (exp(y) + exp(-y))^2",
            ),
            Step("The fraction is the square of h. So y need not be kept.", "diff_y tanh(y) = 1 - h^2"),
            Step(
                "The code computes it as a product, which loses no digits where h is close to 1 or -1.",
                "1 - h^2 = (1 - h) (1 + h)",
            ),
            Step("dh times the slope is the line:"),
        ),
        "calculus",
        ("affine_tanh", "tanh"),
    ),
    "softplus": Derivation(
        "The smooth rectifier (softplus)",
        (
            Step(
                "Softplus is a smooth version of max(0, y). The code uses the form on the right: its exp is never greater than 1, so "
                "it cannot overflow.",
                "log(1 + exp(y)) = max(y, 0) + log(1 + exp(-|y|))",
            ),
            Step("By the chain rule, its slope is the sigmoid.", "diff_y log(1 + exp(y)) = exp(y) / (1 + exp(y)) = sigmoid(y)"),
            Step(
                "Because exp(h) = 1 + exp(y), the slope can be computed from h itself, and y need not be kept. The code uses "
                "expm1, which keeps every digit where h is small.",
                "sigmoid(y) = 1 - 1 / (1 + exp(y)) = 1 - 1 / exp(h)",
            ),
            Step("dh times the slope is the line:"),
        ),
        "Dugas, Bengio, Belisle, Nadeau & Garcia 2001",
        ("affine_softplus", "softplus"),
    ),
    "silu": Derivation(
        "The sigmoid-weighted unit (SiLU)",
        (
            Step("y passes with a weight between 0 and 1, the sigmoid of y itself.", "h = y sigmoid(y)"),
            Step(
                "This is the slope of the sigmoid, because 1 - sigmoid(y) = sigmoid(-y).",
                "diff_y sigmoid(y) = sigmoid(y) (1 - sigmoid(y)) = sigmoid(y) sigmoid(-y)",
            ),
            Step(
                "By the product rule, the slope of h has two terms: y moves, and its weight moves.",
                "diff_y (y sigmoid(y)) = sigmoid(y) + y sigmoid(y) sigmoid(-y)",
            ),
            Step(
                "h falls until y is about -1.28 and rises from there, so that two values of y give the same h. The slope therefore "
                "cannot be computed from h: the forward pass keeps y."
            ),
            Step("dh times the slope is the line:"),
        ),
        "Hendrycks & Gimpel 2016 (arXiv 1606.08415); Elfwing, Uchibe & Doya 2018; Ramachandran et al. 2017 (arXiv 1710.05941)",
        ("affine_silu", "silu"),
    ),
    "gelu": Derivation(
        "The Gaussian error unit (GELU)",
        (
            Step(
                "y passes with a weight between 0 and 1: the probability Phi(y) that a standard normal number is below y.",
                "h = y Phi(y)",
            ),
            Step(
                "Phi is the integral of the density of N(0, 1) up to y. So its slope is that density.",
                "diff_y Phi(y) = exp(-y^2 / 2) / sqrt(2 pi)",
            ),
            Step(
                "By the product rule, the slope of h has two terms: y moves, and its weight moves.",
                "diff_y (y Phi(y)) = Phi(y) + y exp(-y^2 / 2) / sqrt(2 pi)",
            ),
            Step(
                "h falls until y is about -0.75 and rises from there, so that two values of y give the same h. The slope therefore "
                "cannot be computed from h: the forward pass keeps y."
            ),
            Step("dh times the slope is the line:"),
        ),
        "Hendrycks & Gimpel 2016 (arXiv 1606.08415); this is the exact form, not the approximation by tanh",
        ("affine_gelu", "gelu"),
    ),
}
