"""The paths from the loss back to the parameters, and the lines that lie on each of them."""

from vae_np.study.lines import Lines

BACKWARD, GRADIENTS = "backward", "weight_gradients"  # the functions that compute derivatives
TERMS = {"reconstruction": "reconstruction", "kl": "KL", "l2": "L2"}  # of the loss, and what each is called
PATHS = {"all": "the whole loss", **TERMS, "z": "μ, log σ² through z", "divergence": "μ, log σ² through the KL"}


def forward_lines(trace: Lines) -> list[int]:
    """The lines of the forward pass, by their index."""
    return [i for i, line in enumerate(trace) if line.function not in (BACKWARD, GRADIENTS)]


def paths_of(trace: Lines) -> list[set[str]]:
    """For each line, the keys in PATHS of the paths on which it lies; a derivative lies where the line does that it differentiates.

    A search in the graph of the forward pass, whose edges lead from the line that computes a value to the lines that read it. A
    line reads a value only where it contributes to the value's derivative: so a KL in closed form does not read z.
    """
    computed_by, read_by = {}, {}  # {name of a value: indices of lines}
    for i in forward_lines(trace):
        if trace[i].called and not trace[i].composite:
            for array in trace[i].writes:
                computed_by.setdefault(array.name, set()).add(i)
    for line in trace:
        for array in line.writes:
            if array.error is not None:
                read_by.setdefault(array.name.removeprefix("d").removesuffix(".y"), set()).update(array.through)

    def reached(start, neighbours):
        """These lines, and all that can be reached from them."""
        found, new = set(), set(start)
        while new:
            found |= new
            new = {j for i in new for j in neighbours(i)} - found
        return found

    def later(i):
        return [j for name, lines in computed_by.items() if i in lines for j in read_by.get(name, ())]

    def earlier(i):
        return [j for name, lines in read_by.items() if i in lines for j in computed_by.get(name, ())]

    def calling(name):
        return [i for i in forward_lines(trace) if trace[i].called == name]

    lines_of = {
        "reconstruction": reached(computed_by.get("nll", ()), earlier) | read_by.get("nll", set()),
        "kl": reached(computed_by.get("kl", ()), earlier) | read_by.get("kl", set()),
        "z": reached(calling("reparameterize"), later),
        "divergence": reached(calling("divergence"), later),
    }

    def paths(i, line):
        yield "all"
        differentiated = set(line.differentiates) or {i}
        known = [array.parts for array in line.writes if array.parts]  # where an estimator mixes the terms, a part is not known
        yield from (
            path
            for path, lines in lines_of.items()
            if differentiated & lines and (not known or any(path in of for of in known))
        )
        if trace.arguments["l2"] and any("l2" in array.parts for array in line.writes):
            yield "l2"

    return [set(paths(i, line)) for i, line in enumerate(trace)]
