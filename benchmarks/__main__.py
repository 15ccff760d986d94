"""The command `python -m benchmarks` with its commands step, kernels, scaling, training, checkers, ranks and report."""

import datetime
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import (
    checkers,
    costs,
    machine,
    measure,
    operations,
    plots,
    processes,
    ranks,
    report,
    tables,
    training,
    workloads,
)
from benchmarks.contestants import FLOORS, REFERENCES, Contestant, contestants
from vae_np import kernels
from vae_np.architecture import check_choice, check_count, check_number
from vae_np.console import make_console, print_in_any_encoding
from vae_np.plots import write

WIDTH = 140  # the width of the lines where the output is not a terminal

TORCH_IN_TRAINING = {"float32": "torch eager", "bfloat16": "torch autocast"}

Results = Callable[[measure.ShowStatus], Iterator[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 1 where a contestant or an operation computes something wrong, 2, after one sentence on standard error,
    where the command cannot be run, and 130 after Ctrl-C.
    """
    print_in_any_encoding()
    try:
        options = parser().parse_args(arguments)
        sys.exit(options.run(options))
    except (ValueError, TypeError, OSError, RuntimeError, processes.WorkerError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("benchmarks: stopped", file=sys.stderr)
        sys.exit(130)


def parser() -> ArgumentParser:
    """Return the parser of the command line; of its result, `run` is the function that runs the chosen command."""
    top = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure how fast vae_np trains, beside PyTorch, JAX and the matrix products of a step alone, and what its "
        "checker of gradients finds, beside those of others.",
    )
    subparsers = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = subparsers.add_parser(command.name, help=command.run.__doc__, description=command.run.__doc__)
        sub.set_defaults(run=command.run)
        command.add_options(sub)
    return top


# ------------------------------------------------------------------------------------ each command and then its options


def step(options: Namespace) -> int:
    """Time a training step of all backends, of PyTorch, of JAX and of the floor, its matrix products alone."""
    threads = options.threads or sorted({1, len(processes.allowed_cores())})
    for n in threads:
        processes.choose_cores(n)
    rounds, precision = check_count("rounds", options.rounds), options.precision
    chosen, comparisons = _contestants(options.contestant, precision), []
    for device, floor in FLOORS.items():
        if own := [contestant for contestant in chosen if contestant.device == device]:
            of_device = threads if device == "cpu" else [max(threads)]  # the threads that give the GPU its work
            comparisons.append((workloads.select(options.workload, device), of_device, _with_floor(own, floor)))

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        for chosen, threads, own in comparisons:
            for workload in chosen:
                for n in threads:
                    yield measure.compare(workload, own, REFERENCES[precision], n, rounds, show_status, precision)

    return _print_results("step", options, results)


def _step_options(sub: ArgumentParser) -> None:
    names = f"{', '.join(workloads.WORKLOADS)}. `iwae` stands for those whose names begin with it, and `all` for all"
    sub.add_argument(
        "--workload", nargs="+", metavar="NAME", default=["example"], help=f"The workloads: {names}. By default `example`."
    )
    sub.add_argument(
        "--threads",
        type=int,
        metavar="N",
        nargs="+",
        help="The numbers of cores that the contestants are pinned to, one after another. By default 1 and then all cores.",
    )
    _add_precision(sub)
    _add_contestants(sub, "all of them", REFERENCES)
    _add_rounds(sub, 20, "contestant")
    _add_json(sub)


def time_operations(options: Namespace) -> int:
    """Check and time each operation, and compare it with the multiply-add peak and the bandwidth of the caches."""
    rounds = check_count("rounds", options.rounds)
    for name in options.operation or ():
        check_choice("operation", name, costs.costly_operations())

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        yield operations.compare_operations(rounds, options.backend, show_status, names=options.operation)

    return _print_results("kernels", options, results)


def _operations_options(sub: ArgumentParser) -> None:
    names = ", ".join(kernels.CHECKS)
    sub.add_argument(
        "--backend",
        nargs="+",
        choices=list(kernels.CHECKS),
        metavar="NAME",
        default=_runnable(),
        help=f"The kernel sets: {names}. By default all that run here.",
    )
    sub.add_argument("--operation", nargs="+", metavar="NAME", help="The operations. By default all that do anything.")
    _add_rounds(sub, 10, "operation")
    _add_json(sub)


def scaling(options: Namespace) -> int:
    """Time a training step at several batch sizes, widths, latent sizes, numbers of samples and of threads."""
    rounds, threads = check_count("rounds", options.rounds), options.threads
    processes.choose_cores(threads)
    chosen = _with_floor(_contestants(options.contestant or _runnable(), "float32"), FLOORS["cpu"])
    every_count = range(1, len(processes.allowed_cores()) + 1)

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        for axis in options.axis:
            points, values = [], workloads.AXES[axis].values
            for value in values or every_count:
                n = threads if values else value
                result = measure.compare(workloads.scaled(axis, value), chosen, REFERENCES["float32"], n, rounds, show_status)
                kept = {key: result[key] for key in ("threads", "flops", "rows")}
                points.append({"value": value, **kept})
            yield {"axis": axis, "rounds": rounds, "points": points}

    return _print_results("scaling", options, results, plot=options.plot)


def _scaling_options(sub: ArgumentParser) -> None:
    axes = list(workloads.AXES)
    sub.add_argument(
        "--axis",
        nargs="+",
        choices=axes,
        metavar="NAME",
        default=axes,
        help=f"What is varied: {', '.join(axes)}. All else is as in the workload `example`. By default each of them.",
    )
    _add_threads(sub, "The number of cores that the contestants are pinned to, where that is not what is varied.")
    _add_contestants(sub, "the floor and all kernel sets that run here", ["float32"])
    _add_rounds(sub, 5, "contestant")
    _add_json(sub)
    sub.add_argument("--plot", metavar="FILE", help="Write a picture of the time per step against what is varied, as a PNG.")


def train(options: Namespace) -> int:
    """Time how long training on MNIST takes to reach a given test -ELBO."""
    epochs, target = check_count("epochs", options.epochs), check_number("target", options.target)
    seeds, threads = check_count("seeds", options.seeds), options.threads
    processes.choose_cores(threads)
    precision = options.precision
    chosen = _contestants(options.contestant or [*_runnable(), TORCH_IN_TRAINING[precision]], precision)
    chosen = [contestant for contestant in chosen if contestant.name not in FLOORS.values()]

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        for seed in range(seeds):
            yield training.train_to(target, chosen, epochs, threads, seed, show_status, precision=precision)

    return _print_results("training", options, results, plot=options.plot)


def _train_options(sub: ArgumentParser) -> None:
    sub.add_argument(
        "--target",
        type=float,
        metavar="NATS",
        default=training.TARGET,
        help="The test -ELBO to be reached, in nats, estimated with drawn noise. By default %(default)s.",
    )
    sub.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        default=15,
        help="The number of epochs after which a contestant that has not reached the target stops. By default %(default)s.",
    )
    sub.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        default=1,
        help="The number of trainings of each contestant, each with other parameters and noise. By default %(default)s.",
    )
    _add_threads(sub, "The number of cores that the contestants are pinned to.")
    _add_precision(sub)
    _add_contestants(sub, f"all kernel sets that run here and {' or '.join(map(repr, TORCH_IN_TRAINING.values()))}", REFERENCES)
    _add_json(sub)
    sub.add_argument("--plot", metavar="FILE", help="Write a picture of the test -ELBO against the seconds, as a PNG.")


def compare_checkers(options: Namespace) -> int:
    """Try checkers of gradients on planted faults and on right functions: ours, and those of PyTorch, JAX, Autograd and SciPy."""
    rounds = check_count("rounds", options.rounds)
    known = {checker.name: checker for checker in checkers.CHECKERS}
    for name in options.checker or ():
        check_choice("checker", name, known)
    chosen = [checker for name, checker in known.items() if options.checker is None or name in options.checker]

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        yield checkers.compare_checkers(rounds, show_status, chosen)

    return _print_results("checkers", options, results)


def _checkers_options(sub: ArgumentParser) -> None:
    names = ", ".join(checker.name for checker in checkers.CHECKERS)
    words = f"The checkers: {names}. By default all that are installed."
    sub.add_argument("--checker", nargs="+", metavar="NAME", help=words)
    _add_rounds(sub, 3, "checker")
    _add_json(sub)


def time_ranks(options: Namespace) -> int:
    """Time a training step by several processes of mpiexec, beside threads and PyTorch's DistributedDataParallel."""
    rounds, counts = check_count("rounds", options.rounds), [check_count("ranks", n) for n in options.ranks]
    for name in options.workload:
        check_choice("workload", name, workloads.WORKLOADS)

    def results(show_status: measure.ShowStatus) -> Iterator[dict[str, Any]]:
        for name in options.workload:
            yield ranks.compare(name, counts, rounds, show_status)

    return _print_results("ranks", options, results)


def _ranks_options(sub: ArgumentParser) -> None:
    names = ["example", "wide", "iwae-50"]
    words = f"The workloads: {', '.join(workloads.WORKLOADS)}. By default {', '.join(names)}."
    sub.add_argument("--workload", nargs="+", metavar="NAME", default=names, help=words)
    words = "The numbers of ranks, besides 1. By default 2 and 4."
    sub.add_argument("--ranks", type=int, nargs="+", metavar="N", default=[2, 4], help=words)
    _add_rounds(sub, 3, "number of ranks")
    _add_json(sub)


def write_report(options: Namespace) -> None:
    """Write a page of tables and plots from files of results."""
    console = make_console(WIDTH)
    for path in report.page(options.files, options.out):
        console.print(path)


def _report_options(sub: ArgumentParser) -> None:
    sub.add_argument("files", nargs="+", metavar="FILE", help="Files that the option --json of the other commands wrote.")
    sub.add_argument("--out", required=True, metavar="FILE", help="The page to write, in Markdown. Its plots stand beside it.")


class Command(NamedTuple):
    """A command: its name, the function that runs it, whose docstring is its help, and the one that adds its options."""

    name: str
    run: Callable[[Namespace], int | None]
    add_options: Callable[[ArgumentParser], None]


COMMANDS = (
    Command("step", step, _step_options),
    Command("kernels", time_operations, _operations_options),
    Command("scaling", scaling, _scaling_options),
    Command("training", train, _train_options),
    Command("checkers", compare_checkers, _checkers_options),
    Command("ranks", time_ranks, _ranks_options),
    Command("report", write_report, _report_options),
)


def _add_precision(sub: ArgumentParser) -> None:
    words = "The precision of matrix products, which the contestants have in common. By default %(default)s."
    sub.add_argument("--precision", choices=list(REFERENCES), metavar="NAME", default="float32", help=words)


def _add_contestants(sub: ArgumentParser, by_default: str, precisions: Iterable[str]) -> None:
    names = "; ".join(f"in {precision} {', '.join(map(repr, contestants(precision)))}" for precision in precisions)
    words = f"The contestants: {names}. By default {by_default}."
    sub.add_argument("--contestant", nargs="+", metavar="NAME", help=words)


def _add_threads(sub: ArgumentParser, words: str) -> None:
    cores = len(processes.allowed_cores())
    sub.add_argument("--threads", type=int, metavar="N", default=cores, help=f"{words} By default all {cores}.")


def _add_rounds(sub: ArgumentParser, default: int, what: str) -> None:
    words = f"The number of blocks that are timed for each {what}. By default %(default)s."
    sub.add_argument("--rounds", type=int, metavar="N", default=default, help=words)


def _add_json(sub: ArgumentParser) -> None:
    sub.add_argument("--json", metavar="FILE", help="Write the results to this file, for the command `report`.")


def _runnable() -> list[str]:
    return [name for name, status in kernels.available().items() if status.ok]


def _contestants(names: Sequence[str] | None, precision: str) -> list[Contestant]:
    known = contestants(precision)
    for name in names or ():
        check_choice("contestant", name, known)
    return [contestant for contestant in known.values() if names is None or contestant.name in names]


def _with_floor(chosen: Iterable[Contestant], floor: str) -> list[Contestant]:
    return [contestants()[floor], *(contestant for contestant in chosen if contestant.name != floor)]


# ----------------------------------------------------------------------------------------------------------- results


def _print_results(benchmark: str, options: Namespace, results: Results, plot: str | None = None) -> int:
    """Print the machine and then each result when it comes, and write the files. Return 1 if anything is wrong, else 0."""
    for path in filter(None, (options.json, plot)):  # before the first result, which may take minutes
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise ValueError(f"{path} cannot be written: there is no such folder")
    document = {
        "benchmark": benchmark,
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "results": [],
    }
    console = make_console(WIDTH)
    for line in tables.describe(document):
        console.print(line)
    changed = machine.settings()
    if changed:
        names = ", ".join(changed)
        console.print(f"WARNING: The environment sets {names}, which may change how fast the libraries are.")
    wrong = False
    with make_console(WIDTH, stderr=True).status("") as status:
        for result in results(lambda line: status.update(Text(line))):
            document["results"].append(result)
            _print(console, tables.TABLES[benchmark](result))
            if options.json:
                report.save(document, options.json)  # after each result, so that they are kept when the command is stopped
            rows = [row for part in result.get("points", [result]) for row in part["rows"]]
            wrong = wrong or any(row["status"] == "wrong" for row in rows)
    if plot and (figure := plots.draw(document)) is not None:
        console.print(write(figure, plot))
    return 1 if wrong else 0


def _print(console: Console, table: tables.Table) -> None:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(table.columns):
        shown.add_column(
            column.replace(" ", "\n").replace("÷\n", "÷ "),
            justify="right" if i else "left",
        )
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print()
    console.print(table.title)
    console.print(shown)
    for note in table.notes:
        console.print(f"  {note}")


if __name__ == "__main__":
    main()
