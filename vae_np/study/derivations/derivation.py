"""What a derivation is: its steps, each a sentence and perhaps a formula."""

from typing import NamedTuple


class Step(NamedTuple):
    """What is done, and what it gives. In a formula d name is the derivative of the loss, and diff_name any derivative."""

    sentence: str
    formula: str | None = None


class Derivation(NamedTuple):
    """The steps from a definition to a line, and where they are published."""

    title: str
    steps: tuple
    source: str


VAE = "Kingma & Welling 2014 (arXiv 1312.6114)"
