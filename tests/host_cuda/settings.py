"""The settings of all launches and new arrays, which context managers change for the code within them."""

import contextlib
import dataclasses
import random
from collections.abc import Iterator

ORDERS = ("forward", "reverse", "shuffled")


@dataclasses.dataclass
class Settings:
    """The settings, and what they are where nothing is said."""

    order: str = "forward"
    generator: random.Random = dataclasses.field(default_factory=lambda: random.Random(0))
    placement: str = "end"
    alignment: int = 1
    late: bool | random.Random = False  # the generator draws which work is done
    # A launch with more turns never ends. Their number does not depend on the speed of the machine.
    most_turns: int = 2**32
    # The only limit in time: a loop in which no thread meets another one has no turns to count.
    most_seconds: float = 60.0


settings = Settings()


@contextlib.contextmanager
def changed(**changes: object) -> Iterator[None]:
    """Within it the settings have other values."""
    before = dict(vars(settings))
    vars(settings).update(changes)
    try:
        yield
    finally:
        vars(settings).update(before)


def order(name: str, seed: int = 0) -> contextlib.AbstractContextManager[None]:
    """Within it threads, warps and blocks run in this order. The result of a correct kernel does not depend on it.

    Parameters
    ----------
    name
        "forward", "reverse" or "shuffled".
    seed
        The seed of the order "shuffled", which is another one in each launch.
    """
    if name not in ORDERS:
        raise ValueError(f"order is {name!r}; it must be one of {', '.join(ORDERS)}")
    return changed(order=name, generator=random.Random(seed))


def placement(edge: str, alignment: int = 1) -> contextlib.AbstractContextManager[None]:
    """Within it new arrays are placed so that one of their edges touches a page that no thread may use.

    An access beyond that edge is reported at once, with its line. Beyond the other edge a write is reported after the launch,
    and a read gets NaN.

    Parameters
    ----------
    edge
        "end" or "start".
    alignment
        The first byte of an array has an address that is a multiple of this number. For the edge "end" this can leave a few
        bytes between the array and the page.
    """
    if edge not in ("end", "start"):
        raise ValueError(f"edge is {edge!r}; it must be one of end, start")
    return changed(placement=edge, alignment=alignment)


def limits(turns: int = Settings.most_turns, seconds: float = Settings.most_seconds) -> contextlib.AbstractContextManager[None]:
    """Within it a launch is a fault if it takes too long.

    Parameters
    ----------
    turns
        The largest number of turns of all threads together. A turn ends where the thread waits for others, or returns.
    seconds
        The longest time of computing in which no turn ends.
    """
    return changed(most_turns=turns, most_seconds=seconds)
