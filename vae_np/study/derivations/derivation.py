"""What a derivation is: a title, its steps, and a source."""

from typing import NamedTuple

VAE = "Kingma & Welling 2014 (arXiv 1312.6114)"


class Step(NamedTuple):
    """One step of a derivation: a sentence, and a formula where the step has one.

    In a formula, dname is the derivative of the loss with respect to name, and diff_name takes the derivative of what follows it.
    """

    sentence: str
    formula: str | None = None


class Derivation(NamedTuple):
    """The steps that lead from a definition to a line of code, and the publication in which they stand.

    operations are those that it explains, with all their derivatives; where there are none, it is the one of the derivation's name.
    """

    title: str
    steps: tuple[Step, ...]
    source: str
    operations: tuple[str, ...] = ()
