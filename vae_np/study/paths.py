"""Which paths from the loss to the parameters each line lies on."""

import numpy as np


def paths_of(trace, forward):
    """{index of a line: the paths on which it lies}"""
    made_by, read_by = {}, {}  # {name of a value: indices of lines}; it is read where something of its derivative comes from
    for i in forward:
        if trace[i].called and not trace[i].composite:
            for array in trace[i].writes:
                made_by.setdefault(array.name, set()).add(i)
    for line in trace:
        for array in line.writes:
            read_by.setdefault(array.name.removesuffix(".y")[1:], set()).update(array.through)

    def along(start, steps):
        """These lines and all that are reached from them."""
        found, new = set(), set(start)
        while new:
            found |= new
            new = {j for i in new for j in steps(i)} - found
        return found

    def down(i):
        return [j for name, lines in made_by.items() if i in lines for j in read_by.get(name, ())]

    def up(i):
        return [j for name, lines in read_by.items() if i in lines for j in made_by.get(name, ())]

    called = {trace[i].called: i for i in forward}
    lines_of = {
        "reconstruction": along(made_by.get("nll", ()), up) | read_by.get("nll", set()),
        "kl": along(made_by.get("kl", ()), up) | read_by.get("kl", set()),
        "z": along({called["reparameterize"]} if "reparameterize" in called else (), down),
        "divergence": along({called["divergence"]} if "divergence" in called else (), down),
    }
    paths = {}
    for i, line in enumerate(trace):
        undone = set(line.undoes) or {i}
        paths[i] = {"all", *(path for path, lines in lines_of.items() if undone & lines)}
        if any(np.abs(trace.terms["l2"].get(array.name, 0)).max(initial=0) > 1e-14 for array in line.writes):
            paths[i].add("l2")
    return paths
