"""Results as tables of text, for a terminal and for a page."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmarks.contestants import FLOORS, PEAK
from benchmarks.disturbances import DISTURBED, FEWEST
from vae_np import kernels


class Table(NamedTuple):
    """Cells of text. The first column is aligned to the left, the others to the right; the notes stand below the rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def make_tables(document: dict[str, Any]) -> list[Table]:
    """Return a Table for each result in a document, as `report.save` writes it."""
    return [TABLES[document["benchmark"]](result) for result in document["results"]]


def describe(document: dict[str, Any]) -> list[str]:
    """Return lines that describe the machine on which a document's times were measured."""
    machine = document["machine"]
    blas = "; ".join(
        f"{b['internal_api']} {b['version']} of {b['of']}, architecture {b['architecture']}, {b['num_threads']} threads"
        for b in machine["blas"]
    )
    lines = [
        f"{machine['processor']}, {machine['cores_allowed']} of {machine['cores']} cores, {machine['system']}",
        f"BLAS: {blas or 'unknown'}",
        f"Python {machine['python']}, " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        f"commit {machine['commit'] or 'unknown'}, {document['date']}",
    ]
    if gpu := machine.get("gpu"):
        drivers = f"driver {gpu['driver'] or 'unknown'} (CUDA {gpu['cuda_of_driver']})"
        lines.insert(1, f"GPU: {gpu['name']}, {drivers}, CUDA {gpu['cuda']}, cuBLAS {gpu['cublas']}, CuPy {gpu['cupy']}")
    if machine["environment"]:
        lines.append("environment: " + " ".join(f"{name}={value}" for name, value in machine["environment"].items()))
    return lines


def device_of(result: dict[str, Any]) -> str:
    """Return the device of a result of `step`: "cpu" or "gpu"."""
    return result.get("device", "cpu")  # files from before there were GPUs have no device


def place_of(result: dict[str, Any]) -> str:
    """Return the device of a result of `step` and the number of its threads, in words."""
    threads = _number(result["threads"], "thread")
    return threads if device_of(result) == "cpu" else f"the GPU and {threads}"


def precision_of(result: dict[str, Any]) -> str:
    """Return the precision of a result."""
    return result.get("precision", "float32")  # files of older versions do not say it


def names_in(points: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of all contestants in results, each once."""
    return list(dict.fromkeys(row["name"] for point in points for row in point["rows"]))


def _step_table(result: dict[str, Any]) -> Table:
    timed = {row["name"]: row for row in result["rows"] if "median" in row}
    others = [name for name in timed if name not in kernels.CHECKS]  # the contestants that are not our own backends
    has_disturbances = "peak" in result  # files of older versions lack it
    rows = []
    for row in result["rows"]:
        ratios = row.get("ratios", {})
        cells = [
            row["name"],
            *(_microseconds(row, "median", "p10", "minimum") if "median" in row else (row["status"], "", "")),
            *(f"{ratios[other]:.2f}" if other in ratios else "" for other in others),
            f"{row['loss_error']:.0e}" if "loss_error" in row else "",
            f"{row['peak_memory_mb']:.0f}" if "peak_memory_mb" in row else "",
        ]
        if has_disturbances:
            cells += [f"{row['taken']:.1%}", f"{row['dropped']}"] if "taken" in row else ["", ""]
        rows.append(cells)
    speeds = [
        f"{result['flops'] / timed[name]['median'] / 1e9:.0f} GFLOP/s at the {words}"
        for name, words in ((FLOORS[device_of(result)], "floor"), (PEAK, "peak"))
        if name in timed
    ]
    return Table(
        f"{result['workload']}: {result['architecture']} {result['activation']}, batch {result['batch_size']}, "
        f"L = {result['n_samples']}, {precision_of(result)}, {place_of(result)}; µs per step",
        ["contestant", "median", "p10", "min", *(f"÷ {other}" for other in others), "loss error", "peak MB"]
        + ["taken", "dropped"] * has_disturbances,
        rows,
        [
            f"The matrix products of a step are {result['flops'] / 1e6:.0f} MFLOP"
            f"{', which is ' + ' and '.join(speeds) if speeds else ''}.",
            f"Each contestant was timed in {_number(result['rounds'], 'round')}. "
            "A ratio is the median over the rounds of the ratio within a round.",
            *(_disturbances(result) if has_disturbances else _others(result["share_of_others"])),
            *_reasons(result["rows"]),
            *(f"{row['name']}: {row['note']}" for row in result["rows"] if row.get("note")),
        ],
    )


def _kernels_table(result: dict[str, Any]) -> Table:
    rows = []
    for row in result["rows"]:
        cells, operations = [row["name"], row["backend"]], row["operations"]
        if "median" in row:
            moved, of_bandwidth = row["read"] + row["written"], row["share_of_bandwidth"]
            cells += [
                f"{1e6 * row['median']:.2f}",
                f"{1e6 * row['minimum']:.2f}",
                f"{moved / 1e3:.0f}",
                row["level"],
                f"{moved / row['median'] / 1e9:.1f}",
                "" if of_bandwidth is None else f"{of_bandwidth:.0%}",
                "" if operations is None else f"{operations / 1e3:.0f}",
                "" if operations is None else f"{operations / row['median'] / 1e9:.1f}",
                "" if operations is None else f"{row['share_of_peak']:.0%}",
            ]
        else:
            cells += [row["status"], *[""] * 8]
        rows.append(cells)
    sizes = ", ".join(f"{name} {size}" for name, size in result["sizes"].items())
    levels = "; ".join(
        f"{name} {speeds['read'] / 1e9:.0f} and {speeds['write'] / 1e9:.0f}" for name, speeds in result["levels"].items()
    )
    speeds = result["peak"]["all"]
    return Table(
        f"operations at {sizes}; float32, one thread, called from Python",
        ["operation", "backend", "µs", "min µs", "kB", "held in", "GB/s", "of bandwidth", "kFLOP", "GFLOP/s", "of peak"],
        rows,
        [
            "kB: each array that the operation needs is read once, and each that it fills is written once.",
            "of bandwidth: the time of these reads, or of these writes if it is longer, as a share of the operation's time, at "
            "the speed of loops that only read and write as many bytes as the operation touches. These stay in the cache if "
            "they fit into it.",
            *([f"Bytes that a core reads and writes in each level, in GB/s: {levels}."] if levels else []),
            "kFLOP: the operations of the reference's formula; a call of exp, log1p, tanh or sqrt counts as one.",
            f"of peak: {max(speeds.values()) / 1e9:.0f} GFLOP/s, the largest of these: "
            + ", ".join(f"{how} {flops / 1e9:.0f}" for how, flops in speeds.items())
            + ". It is measured again beside each block.",
            *_disturbed(result["rows"]),
            *(f"{name}: {reason}" for name, reason in result["missing"].items()),
            *_reasons(result["rows"]),
        ],
    )


def _scaling_table(result: dict[str, Any]) -> Table:
    points, names, rows = result["points"], names_in(result["points"]), []
    for point in points:
        by_name = {row["name"]: row for row in point["rows"]}
        timed = {name: f"{1e6 * row['median']:.0f}" for name, row in by_name.items() if "median" in row}
        rows.append([str(point["value"]), *(timed.get(name, by_name[name]["status"]) for name in names)])
    threads = "" if result["axis"] == "threads" else f", {_number(points[0]['threads'], 'thread')}"
    return Table(
        f"example at several values of {result['axis']}{threads}; µs per step, median",
        [result["axis"], *names],
        rows,
        [
            *_others(max((point.get("share_of_others") or 0.0 for point in points), default=None)),
            *_disturbed(row for point in points for row in point["rows"]),
            *_reasons(row for point in points for row in point["rows"]),
        ],
    )


def _training_table(result: dict[str, Any]) -> Table:
    rows = []
    for row in result["rows"]:
        cells = [row["name"], *[""] * 6]
        if "seconds" in row:
            cells[1:] = [
                "yes" if row["reached"] else "no",
                f"{row['seconds']:.2f}",
                str(row["epochs"]),
                f"{row['seconds'] / row['epochs']:.2f}",
                f"{row['test']:.2f}",
                f"{row['start_seconds']:.1f}",
            ]
        else:
            cells[1] = row["status"]
        rows.append(cells)
    return Table(
        f"{result['workload']} on MNIST to a test -ELBO of {result['target']} nats, {precision_of(result)}, "
        f"{_number(result['threads'], 'thread')}, seed {result['seed']}",
        ["contestant", "reached", "seconds", "epochs", "s per epoch", "test -ELBO", "start s"],
        rows,
        [
            "seconds: the time of the training steps alone, to the end of the first epoch that reached the target. The start, "
            "in which code is compiled and a first epoch is made, and the evaluations are not part of it.",
            *_reasons(result["rows"]),
        ],
    )


def _checkers_table(result: dict[str, Any]) -> Table:
    planted = result["planted"]
    rows, missed, alarms = [], [], []
    for row in result["rows"]:
        if "milliseconds" not in row:
            rows.append([row["name"], row["status"], *[""] * (len(planted) + 4)])
            continue
        found = [n - len(row["missed"][kind]) for kind, n in planted.items()]
        counts = [*found, row["placed"], row["explained"], len(row["alarms"]), len(row["refused"])]
        rows.append([row["name"], *map(str, counts), f"{row['milliseconds']:.1f}"])
        names = [
            f"all of {kind}" if n == len(row["missed"][kind]) else "; ".join(row["missed"][kind])
            for kind, n in planted.items()
            if row["missed"][kind]
        ]
        missed += [f"{row['name']} does not find: {'; '.join(names)}."] if names else []
        alarms += [f"{row['name']} calls wrong what is right: {'; '.join(row['alarms'])}."] if row["alarms"] else []
    faults = ", ".join(f"{n} of {kind}" for kind, n in planted.items())
    return Table(
        f"planted faults: {faults}; and {result['right']} right functions",
        ["checker", *planted, "place", "cause", "false alarms", "refused", "ms"],
        rows,
        [
            f"{', '.join(planted)}: how many of these faults are found. The gradient agrees with the value in a fault of meaning: "
            "it is the value that is wrong.",
            "place, cause: how many faults have a message that names the right place, and no other, and the right cause. The words "
            "that count as the cause stand in benchmarks/faults.py; most of them were taken from the messages of vae_np.",
            "refused: how many right functions cannot be checked, for a reason that the message gives.",
            "vae_np is check_gradients, and for a VAE check_vae and check_likelihood. PyTorch adds up a gradient of a larger shape "
            "itself, so that a missing sum is no fault there.",
            f"ms: the median time of a check, in {_number(result['rounds'], 'round')} of all functions.",
            "Each checker has its default tolerances, and gets a function in double precision with its handwritten gradient in "
            "the way that it wants: torch.autograd.Function, jax.custom_vjp, autograd.extend.primitive, or two functions of a "
            "vector. Autograd is called once for each parameter, as it checks one at a time. SciPy returns a number, for which 1e-5 "
            "of the gradient's norm is allowed.",
            *missed,
            *alarms,
            *_reasons(result["rows"]),
        ],
    )


def _ranks_table(result: dict[str, Any]) -> Table:
    first = result["rows"][0].get("median", float("nan"))
    rows = []
    for row in result["rows"]:
        numbers = [row["name"], str(row["processes"]), str(row["threads"])]
        if row["status"] == "ok":
            times = [f"{1e3 * row[key]:.2f}" for key in ("median", "minimum")]
            rows.append([*numbers, *times, f"{first / row['median']:.2f}", f"{row['received'] / 1e6:.2f}"])
        else:
            rows.append([*numbers, row["status"], "", "", ""])
    return Table(
        f"{result['workload']}: {result['architecture']}, batch {result['batch_size']}, L = {result['n_samples']}; ms per step",
        ["way", "processes", "threads", "median", "min", "times as fast", "MB received"],
        rows,
        [
            "All processes run on this machine. They are vae_np on numba, and PyTorch's DistributedDataParallel with gloo on the "
            "same model, where each process has its part of every batch.",
            "sums: the ranks add up the gradients of slices of the batch; the others exchange their rows.",
            f"The weights have {result['bytes_of_weights'] / 1e6:.2f} MB. MB received: what a process receives in a step; of "
            "DistributedDataParallel what a ring needs for its sums.",
            f"The ways were timed one after another in {_number(result['rounds'], 'round')}; median and min are those of all blocks.",
            "times as fast: the median of one thread divided by that of the way.",
            *_reasons(result["rows"]),
        ],
    )


TABLES: dict[str, Callable[[dict[str, Any]], Table]] = {
    "step": _step_table,
    "kernels": _kernels_table,
    "scaling": _scaling_table,
    "training": _training_table,
    "checkers": _checkers_table,
    "ranks": _ranks_table,
}


def _microseconds(row: dict[str, Any], *keys: str) -> list[str]:
    return [f"{1e6 * row[key]:.0f}" for key in keys]


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''}"


def _disturbances(result: dict[str, Any]) -> list[str]:
    """Return what disturbed the blocks of a result, and in which states the machine was."""
    lines = [
        "taken: the share of its cores' time that other processes and other virtual machines took. A block is dropped where "
        f"they took more than {DISTURBED:.0%}, or where the peak beside it was that of another state than beside most blocks. "
        f"{FEWEST} blocks are kept in any case."
    ]
    states = result["peak"]["states"]
    if len(states) > 1:
        found = [f"{state['flops'] / 1e9:.0f} beside {state['share']:.0%} of the blocks" for state in states.values()]
        lines.append(f"The peak of a core, in GFLOP/s: {', '.join(found)}.")
    return lines + _disturbed(result["rows"])


def _disturbed(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return a warning where contestants were not timed undisturbed often enough."""
    names = dict.fromkeys(row["name"] for row in rows if row.get("disturbed"))
    return [f"WARNING: Disturbed blocks are kept of {', '.join(names)}. Measure again when nothing else runs."] if names else []


def _others(share: float | None) -> list[str]:
    """Return a warning where others used the cores, in a file of an older version."""
    if share is None or share < 0.03:
        return []
    return [f"WARNING: Other processes used {share:.0%} of these cores meanwhile. Measure again when there are none."]


def _reasons(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return why rows have no times, each reason once."""
    return list(dict.fromkeys(f"{row['name']}: {row['reason']}" for row in rows if row["reason"]))
