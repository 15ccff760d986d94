"""Results as tables, for the terminal and for a page, and as plots."""

import json
import os
import pathlib
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.contestants import FLOORS
from vae_np.parameters import reading, replacing
from vae_np.plots import write


class Table(NamedTuple):
    """Columns of text, the first to the left and the others to the right; and lines to stand below it."""

    title: str
    columns: list
    rows: list
    notes: list


KEYS = ("median", "p10", "minimum")
# By whom the others' time is divided.
PEERS = (
    "floor",
    "torch eager",
    "torch compiled",
    "jax jit",
    "jax scan",
    "floor gpu",
    "torch eager gpu",
    "torch compiled gpu",
    "torch graph gpu",
    "jax scan gpu",
)


def tables(document):
    """The Tables of a benchmark's document, as `save` wrote it."""
    return [TABLES[document["benchmark"]](result) for result in document["results"]]


def about(document):
    """Lines about the machine that the figures are of."""
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


def _step_table(result):
    timed = {row["name"]: row for row in result["rows"] if "median" in row}
    peers = [peer for peer in PEERS if peer in timed]
    rows = []
    for row in result["rows"]:
        ratios = row.get("ratios", {})
        rows.append(
            [
                row["name"],
                *((f"{1e6 * row[key]:.0f}" for key in KEYS) if "median" in row else (row["status"], "", "")),
                *(f"{ratios[peer]:.2f}" if peer in ratios else "" for peer in peers),
                f"{row['loss_error']:.0e}" if "loss_error" in row else "",
                f"{row['peak_memory_mb']:.0f}" if "peak_memory_mb" in row else "",
            ]
        )
    floor = timed.get(FLOORS[_device(result)])
    speed = f", {result['flops'] / floor['median'] / 1e9:.0f} GFLOP/s at the floor" if floor else ""
    return Table(
        f"{result['workload']}: {result['architecture']} {result['activation']}, batch {result['batch_size']}, "
        f"L = {result['n_samples']}, {_place(result)}; µs a step",
        ["contestant", "median", "p10", "min", *(f"÷ {peer}" for peer in peers), "loss off by", "peak MB"],
        rows,
        [
            f"products of {result['flops'] / 1e6:.0f} MFLOP a step{speed}; {result['rounds']} rounds; "
            "a ratio is the median of those within a round",
            *_others(result["share_of_others"]),
            *_reasons(result["rows"]),
            *(f"{row['name']}: {row['note']}" for row in result["rows"] if row.get("note")),
        ],
    )


def _kernels_table(result):
    rows = []
    for row in result["rows"]:
        cells = [row["name"], row["backend"]]
        if "median" in row:
            bytes_, operations = row["bytes"] / row["median"] / 1e9, row["operations"]
            cells += [
                f"{1e6 * row['median']:.2f}",
                f"{1e6 * row['minimum']:.2f}",
                f"{row['bytes'] / 1e3:.0f}",
                f"{bytes_:.1f}",
                f"{row['share_of_copy']:.0%}",
                "" if operations is None else f"{operations / 1e3:.0f}",
                "" if operations is None else f"{operations / row['median'] / 1e9:.1f}",
                "" if operations is None else f"{row['share_of_peak']:.0%}",
            ]
        else:
            cells += [row["status"], *[""] * 7]
        rows.append(cells)
    sizes = ", ".join(f"{name} {size}" for name, size in result["sizes"].items())
    copies = ", ".join(
        f"{int(size) // 1024} KiB {speed / 1e9:.0f}" for size, speed in result["copy"]["bytes_per_second"].items()
    )
    columns = ["operation", "backend", "µs", "min µs", "kB", "GB/s", "of copy", "kFLOP", "GFLOP/s", "of peak"]
    return Table(
        f"operations at {sizes}; float32, one thread, called from Python",
        columns,
        rows,
        [
            f"copy: {result['copy']['how']}: GB/s of {copies}",
            f"peak: {result['peak']['flops'] / 1e9:.0f} GFLOP/s, the most of: "
            + ", ".join(f"{how} {flops / 1e9:.0f}" for how, flops in result["peak"]["all"].items()),
            "bytes: each array that is needed once, and each that is filled once (a copy's target is fetched before it "
            "is written, what is updated in place is not: it may pass 100%); operations: of the reference's formula, "
            "a call of exp, log1p, tanh or sqrt taken for one",
            *(f"{name}: {reason}" for name, reason in result["missing"].items()),
            *_reasons(result["rows"]),
        ],
    )


def _scaling_table(result):
    names = list(dict.fromkeys(row["name"] for point in result["points"] for row in point["rows"]))
    rows = []
    for point in result["points"]:
        by_name = {row["name"]: row for row in point["rows"]}
        timed = {name: f"{1e6 * row['median']:.0f}" for name, row in by_name.items() if "median" in row}
        rows.append([str(point["value"]), *(timed.get(name, by_name[name]["status"]) for name in names)])
    first = result["points"][0]
    return Table(
        f"example with another {result['axis']}; µs a step, median"
        + ("" if result["axis"] == "threads" else f", {_threads(first['threads'])}"),
        [result["axis"], *names],
        rows,
        [
            *_others(max((point["share_of_others"] or 0.0 for point in result["points"]), default=None)),
            *_reasons([row for point in result["points"] for row in point["rows"]]),
        ],
    )


def _training_table(result):
    rows = []
    for row in result["rows"]:
        cells = [row["name"], *[""] * 6]
        if "seconds" in row:
            reached = "yes" if row["reached"] else "no"
            an_epoch = row["seconds"] / row["epochs"]
            cells[1:] = [
                reached,
                f"{row['seconds']:.2f}",
                str(row["epochs"]),
                f"{an_epoch:.2f}",
                f"{row['test']:.2f}",
                f"{row['start_seconds']:.1f}",
            ]
        else:
            cells[1] = row["status"]
        rows.append(cells)
    return Table(
        f"{result['workload']} on MNIST to a test -ELBO of {result['target']} nats, {_threads(result['threads'])}, "
        f"seed {result['seed']}",
        ["contestant", "reached", "seconds", "epochs", "s an epoch", "test -ELBO", "start s"],
        rows,
        [
            "seconds: of the steps alone, to the end of the first epoch that reached it. Start (compiling, with a "
            "first epoch) and evaluation are not in it.",
            *_reasons(result["rows"]),
        ],
    )


TABLES = {"step": _step_table, "kernels": _kernels_table, "scaling": _scaling_table, "training": _training_table}


def _threads(n):
    return f"{n} thread{'s' if n > 1 else ''}"


def _device(result):
    return result.get("device", "cpu")  # files of before there was another have none


def _place(result):
    threads = _threads(result["threads"])
    return threads if _device(result) == "cpu" else f"the GPU and {threads}"


def _others(share):
    """A warning where processes that are not ours kept the cores busy."""
    if share is None or share < 0.03:
        return []
    return [f"WARNING: other processes took {share:.0%} of these cores meanwhile; measure again when there are none"]


def _reasons(rows):
    """Why rows hold no figures, each said once."""
    return list(dict.fromkeys(f"{row['name']}: {row['reason']}" for row in rows if row["reason"]))


# -------------------------------------------------------------------------------------------------------------- plots

COLOURS = {
    "floor": "#222222",
    "numpy": "#8a8a8a",
    "numba": "#1f6f8b",
    "cupy": "#3a9d5d",
    "torch eager": "#d1495b",
    "torch compiled": "#e58a96",
    "torch graph": "#7b2d3b",
    "jax jit": "#b8860b",
    "jax scan": "#e0b84c",
}


def _colour(name):
    return COLOURS.get(name.removesuffix(" gpu"))


def plot(document):
    """A Figure of a document, or None where there is none to draw."""
    draw = {"step": _step_plot, "scaling": _scaling_plot, "training": _training_plot}.get(document["benchmark"])
    return draw(document["results"]) if draw and document["results"] else None


def _step_plot(results):
    """Each contestant's time as a multiple of the floor's, a panel for each number of threads."""
    places = sorted({(_device(result), result["threads"]) for result in results})
    figure = Figure(figsize=(11, 3.4 * len(places)), dpi=110, layout="constrained")
    for axes, place in zip(figure.subplots(len(places), 1, squeeze=False)[:, 0], places):
        own = [result for result in results if (_device(result), result["threads"]) == place]
        floor = FLOORS[place[0]]
        names = dict.fromkeys(row["name"] for result in own for row in result["rows"] if floor in row.get("ratios", {}))
        names = [name for name in names if name != floor]
        for k, name in enumerate(names):
            bars = {
                i: row["ratios"][floor]
                for i, result in enumerate(own)
                for row in result["rows"]
                if row["name"] == name and floor in row.get("ratios", {})
            }
            middles = [i + (k - (len(names) - 1) / 2) * 0.8 / len(names) for i in bars]
            heights = [height - 1 for height in bars.values()]  # from the floor up, or down where it is passed
            axes.bar(middles, heights, 0.8 / len(names), bottom=1, label=name, color=_colour(name))
        axes.axhline(1, color=COLOURS["floor"], lw=0.8)
        axes.set_xticks(range(len(own)), [result["workload"] for result in own])
        _logarithmic(axes, "y")
        axes.set_ylabel("time ÷ floor")
        axes.set_title(f"a training step, {_place(own[0])}")
        if names:
            axes.legend(fontsize=8, ncols=4)
    return figure


def _scaling_plot(results):
    figure = Figure(figsize=(3.6 * len(results), 3.6), dpi=110, layout="constrained")
    for axes, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results):
        names = list(dict.fromkeys(row["name"] for point in result["points"] for row in point["rows"]))
        for name in names:
            line = {
                point["value"]: 1e6 * row["median"]
                for point in result["points"]
                for row in point["rows"]
                if row["name"] == name and "median" in row
            }
            if line:
                style = "--" if name in FLOORS.values() else "-"
                axes.plot(list(line), list(line.values()), style, marker="o", ms=3, label=name, color=_colour(name))
        _logarithmic(axes, "x")
        _logarithmic(axes, "y")
        axes.set_xticks([point["value"] for point in result["points"]])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(result["axis"])
        axes.set_ylabel("µs a step")
        axes.legend(fontsize=8)
    return figure


def _training_plot(results):
    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    named = set()
    for result in results:
        for row in result["rows"]:
            if row["history"]:
                seconds, test = ([point[key] for point in row["history"]] for key in ("seconds", "test"))
                label = None if row["name"] in named else row["name"]
                named.add(row["name"])
                axes.plot(seconds, test, marker="o", ms=3, label=label, color=_colour(row["name"]))
    axes.axhline(results[0]["target"], color=COLOURS["floor"], lw=0.8, ls="--")
    _logarithmic(axes, "x")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test −ELBO, nats")
    if named:
        axes.legend(fontsize=8)
    return figure


def _logarithmic(axes, which):
    """A logarithmic axis with plain numbers at 1, 2 and 5 times the powers of ten."""
    axis = getattr(axes, f"{which}axis")
    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


# -------------------------------------------------------------------------------------------------------------- files


def save(document, path):
    """Write the document as JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")


def load(path):
    """The document in a file; ValueError in one sentence where it is none."""
    with reading(path, "a file that `python -m benchmarks ... --json` wrote"):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if document["benchmark"] not in TABLES:
            raise ValueError(f"its benchmark is {document['benchmark']!r}")
        about(document), tables(document), plot(document)  # which raise where anything that a page needs is missing
    return document


def page(paths, out):
    """Write a page of the files' results, its plots beside it: the paths written."""
    documents = [load(path) for path in paths]
    out, written, lines = pathlib.Path(out), [], ["# Benchmarks", ""]
    lines += [
        "Written by `python -m benchmarks report` from the results of `step`, `kernels`, `scaling` and `training`.",
        "",
    ]
    os.makedirs(out.parent, exist_ok=True)
    for i, document in enumerate(documents, 1):
        lines += [f"## {document['benchmark']}", "", *(f"* {line}" for line in about(document)), ""]
        figure = plot(document)
        if figure is not None:
            name = f"{out.stem}-{i}-{document['benchmark']}.png"
            written.append(write(figure, os.fspath(out.parent / name)))
            lines += [f"![{document['benchmark']}]({name})", ""]
        for table in tables(document):
            lines += _markdown(table)
    with replacing(out) as file:
        file.write("\n".join(lines).encode())
    return [os.fspath(out), *written]


def _markdown(table):
    columns = [column.replace("|", "\\|") for column in table.columns]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    return [
        f"**{table.title}**",
        "",
        f"| {' | '.join(columns)} |",
        f"|---{'|---:' * (len(columns) - 1)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"* {note}" for note in table.notes),
        "",
    ]
