import html
from typing import NamedTuple


class Definition(NamedTuple):
    equations: tuple
    shapes: str
    note: str


def parse(t):
    return t


def substitute(tree, names):
    return names.get(tree, tree)


def of(d):
    d = d if isinstance(d, str) else d.__doc__
    return Definition(tuple(d.split("\n")[0].split("      ")[0].split(";  ")), "", "")


def plain(t):
    return t


def mathml(t):
    return f'<math data-name="{t}"><mtext>{html.escape(t)}</mtext></math>'
