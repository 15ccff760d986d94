"""The command `python -m benchmarks`: step, kernels, scaling, training, report."""

import argparse
import datetime
import os
import sys

from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks import machine, measure, operations, report, training, workloads
from benchmarks.contestants import FLOORS, REFERENCE, contestants
from vae_np import kernels
from vae_np.architecture import check_choice, check_count, check_number
from vae_np.console import make_console, print_in_any_encoding
from vae_np.plots import write

WIDTH = 140  # of a page that is no terminal


def main(arguments=None):
    """Run one command; exit code 2 and one sentence where it cannot be done, 130 after Ctrl-C."""
    print_in_any_encoding()
    try:
        options = parser().parse_args(arguments)
        options.console, options.status = make_console(WIDTH), make_console(WIDTH, stderr=True)
        sys.exit(options.command(options))
    except (ValueError, TypeError, OSError, RuntimeError, measure.Failed) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("benchmarks: stopped", file=sys.stderr)
        sys.exit(130)


# ----------------------------------------------------------------------------------------------------------- commands


def step(options):
    """A whole training step: every backend, PyTorch, JAX, and the floor, its matrix products alone; then on the GPU."""
    threads, rounds = _threads(options), check_count("rounds", options.rounds)
    who = _contestants(options.contestant)
    parts = []
    for device, floor in FLOORS.items():
        if own := [c for c in who if c.device == device]:
            of_device = threads if device == "cpu" else [max(threads)]  # those that give the GPU its work
            parts.append((workloads.select(options.workload, device), of_device, _with_floor(own, floor)))

    def results(say):
        for chosen, threads, own in parts:
            for workload in chosen:
                for n in threads:
                    yield measure.compare(workload, own, REFERENCE, n, rounds, say)

    return _run("step", options, results)


def kernel_operations(options):
    """Each operation of each kernel set: checked, timed, and held against copying and multiply-adding."""
    rounds = check_count("rounds", options.rounds)
    names = list(operations.costs(operations.EXAMPLE))
    for name in options.operation or ():
        check_choice("operation", name, names)

    def results(say):
        yield operations.compare_operations(rounds, options.backend, say, names=options.operation)

    return _run("kernels", options, results)


def scaling(options):
    """The cost of a step against batch, width, latent size, samples and threads, the floor beside it."""
    rounds, threads = check_count("rounds", options.rounds), options.threads
    measure.choose_cores(threads)
    who = _with_floor(_contestants(options.contestant))

    def results(say):
        for axis in options.axis:
            points = []
            values = range(1, len(measure.cores_here()) + 1) if axis == "threads" else workloads.SCALES[axis]
            for value in values:
                n = value if axis == "threads" else threads
                result = measure.compare(workloads.scaled(axis, value), who, REFERENCE, n, rounds, say)
                kept = {key: result[key] for key in ("threads", "flops", "share_of_others", "rows")}
                points.append({"value": value, **kept})
            yield {"axis": axis, "rounds": rounds, "points": points}

    return _run("scaling", options, results, plot=options.plot)


def train(options):
    """Wall time to a test -ELBO on MNIST, beside PyTorch."""
    epochs, target = check_count("epochs", options.epochs), check_number("target", options.target)
    seeds, threads = check_count("seeds", options.seeds), options.threads
    measure.choose_cores(threads)
    who = [c for c in _contestants(options.contestant) if c.name not in FLOORS.values()]

    def results(say):
        for seed in range(seeds):
            yield training.train_to(target, who, epochs, threads, seed, say)

    return _run("training", options, results, plot=options.plot)


def make_report(options):
    """Write a page of results, with plots, from files that --json wrote."""
    for path in report.page(options.files, options.out):
        options.console.print(path)


def _run(benchmark, options, results, plot=None):
    """Print the machine, then each result as it comes; keep them where --json says. Exit code 1 if one was wrong."""
    for path in filter(None, (options.json, plot)):  # before the first result, which may take minutes
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise ValueError(f"{path} cannot be written: there is no such folder")
    document = {
        "benchmark": benchmark,
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "results": [],
    }
    for line in report.about(document):
        options.console.print(line)
    changed = machine.settings()
    if changed:
        names = ", ".join(changed)
        options.console.print(f"WARNING: the environment sets {names}, which may change how fast the libraries are")
    wrong = False
    with options.status.status("") as status:
        for result in results(lambda words: status.update(Text(words))):
            document["results"].append(result)
            _print(options.console, report.TABLES[benchmark](result))
            if options.json:
                report.save(document, options.json)  # after each, so that one that is stopped has not been for nothing
            rows = [row for part in result.get("points", [result]) for row in part["rows"]]
            wrong = wrong or any(row["status"] == "wrong" for row in rows)
    if plot and (figure := report.plot(document)) is not None:
        options.console.print(write(figure, plot))
    return 1 if wrong else 0


def _print(console, table):
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(table.columns):
        shown.add_column(
            column.replace(" ", "\n", 1) if "÷" not in column else "\n".join(column.rsplit(" ", 1)),
            justify="right" if i else "left",
        )
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print()
    console.print(table.title)
    console.print(shown)
    for note in table.notes:
        console.print(f"  {note}")


# ------------------------------------------------------------------------------------------------------------- options


def _contestants(names):
    known = contestants()
    for name in names:
        check_choice("contestant", name, known)
    return [c for c in known.values() if c.name in names or not names]


def _with_floor(chosen, floor="floor"):
    return [contestants()[floor], *(c for c in chosen if c.name != floor)]


def _threads(options):
    threads = options.threads or sorted({1, len(measure.cores_here())})
    for n in threads:
        measure.choose_cores(n)
    return threads


def parser():
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description="The training step beside PyTorch, JAX and its matrix products alone."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    who, cores = list(contestants()), len(measure.cores_here())

    def command(name, function):
        sub = commands.add_parser(
            name,
            help=function.__doc__,
            description=function.__doc__,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(command=function)
        return sub.add_argument

    def of_results(option, rounds=None):
        if rounds:
            option("--rounds", type=int, default=rounds, help="blocks of steps that are timed of each")
        option("--json", metavar="FILE", help="keep the results there, for `report`")

    def of_contestants(option, default):
        option("--contestant", nargs="+", metavar="NAME", default=default, help=f"of {', '.join(map(repr, who))}")

    option = command("step", step)
    option(
        "--workload",
        nargs="+",
        metavar="NAME",
        default=["example"],
        help=f"of {', '.join(workloads.WORKLOADS)}; iwae, all",
    )
    option("--threads", type=int, nargs="+", help="to be pinned to so many cores, in turn; else 1, then all")
    of_contestants(option, who)
    of_results(option, 20)

    option = command("kernels", kernel_operations)
    runnable = [name for name, status in kernels.available().items() if status.ok]
    option("--backend", nargs="+", choices=list(kernels.CHECKS), default=runnable, help="which kernel sets")
    option("--operation", nargs="+", metavar="NAME", help="else every one that moves anything")
    of_results(option, 10)

    option = command("scaling", scaling)
    axes = [*workloads.SCALES, "threads"]
    option("--axis", nargs="+", choices=axes, default=axes, help="what is varied, the rest as in `example`")
    option("--threads", type=int, default=cores, help="where they are not what is varied")
    option("--plot", metavar="FILE", help="a picture of µs a step against what is varied")
    of_contestants(option, ["floor", *runnable])
    of_results(option, 5)

    option = command("training", train)
    option("--target", type=float, default=training.TARGET, help="the test -ELBO in nats to be reached, eps drawn")
    option("--epochs", type=int, default=15, help="after which a contestant that has not reached it ends")
    option("--seeds", type=int, default=1, help="how many trainings of each, from other parameters and noise")
    option("--threads", type=int, default=cores, help="to be pinned to so many cores")
    option("--plot", metavar="FILE", help="a picture of test -ELBO against seconds")
    of_contestants(option, [*runnable, "torch eager"])
    of_results(option)

    option = command("report", make_report)
    option("files", nargs="+", metavar="FILE", help="what --json wrote")
    option("--out", required=True, metavar="FILE", help="the page; its plots stand beside it")
    return top


if __name__ == "__main__":
    main()
