"""The commands measure what their options say, print what was found, and write no file that they are not asked for."""

import io
import json
import sys

import pytest

from benchmarks import checkers, machine, measure, operations, processes, report, tables, training
from benchmarks.__main__ import main
from benchmarks.contestants import REFERENCES, contestants
from benchmarks.workloads import AXES, WORKLOADS, scaled
from tests.benchmarks.results import CHECKERS, DOCUMENTS, KERNELS, MACHINE, STEP, STEP_ON_GPU, TRAINING
from vae_np import kernels

COMMANDS = (["step"], ["kernels"], ["checkers"], ["scaling"], ["training"])
FINE = STEP | {"rows": [row | {"status": "ok"} for row in STEP["rows"]]}  # a result in which no contestant is wrong


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A list of all that the commands measure; they get made-up results. The current folder is empty."""
    asked, folder = [], tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def compare(workload, who, reference, threads, rounds, say, precision="float32"):
        assert reference is REFERENCES[precision]
        assert [c for c in who if c != contestants(precision)[c.name]] == []
        asked.append((workload, [c.name for c in who], threads, rounds))
        return STEP_ON_GPU if who[0].device == "gpu" else FINE

    def compare_operations(rounds, backends, say, names):
        asked.append((rounds, backends, names))
        return KERNELS

    def train_to(target, who, epochs, threads, seed, say, precision):
        assert [c for c in who if c != contestants(precision)[c.name]] == []
        asked.append((target, [c.name for c in who], epochs, threads, seed))
        return TRAINING | {"seed": seed}

    def compare_checkers(rounds, say, who):
        asked.append((rounds, [checker.name for checker in who]))
        return CHECKERS

    monkeypatch.setattr(measure, "compare", compare)
    monkeypatch.setattr(checkers, "compare_checkers", compare_checkers)
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0, 1, 4])
    monkeypatch.setattr(operations, "compare_operations", compare_operations)
    monkeypatch.setattr(training, "train_to", train_to)
    monkeypatch.setattr(machine, "describe", lambda: MACHINE)
    monkeypatch.setattr(machine, "settings", dict)
    return asked


def run(*words):
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code


def with_gpu(monkeypatch, ok=True):
    monkeypatch.setattr(kernels, "CHECKS", kernels.CHECKS | {"cupy": lambda: kernels.Status(ok)})


def test_step_compares_each_workload_on_each_number_of_threads(asked):
    words = ["--workload", "iwae-1", "digits", "--threads", "2", "1", "--rounds", "3"]
    assert run("step", *words, "--contestant", "numba", "numpy", "floor") == 0
    who = ["floor", "numpy", "numba"]  # the floor comes first
    assert asked == [(WORKLOADS[name], who, n, 3) for name in ("iwae-1", "digits") for n in (2, 1)]


def test_step_takes_one_core_and_all_where_nothing_else_is_said(asked, monkeypatch):
    with_gpu(monkeypatch, ok=False)
    assert run("step") == 0
    assert [(workload.name, n) for workload, _, n, _ in asked] == [("example", 1), ("example", 3)]
    who = asked[0][1]
    assert who[0] == "floor" and {"numpy", "numba", "cupy", "torch eager", "jax scan"} < set(who)
    assert len(who) == len(set(who))
    asked.clear()
    monkeypatch.setattr(processes, "allowed_cores", lambda: [0])
    run("step")
    assert [n for _, _, n, _ in asked] == [1]


def test_precisions_have_contestants_of_their_own(asked):
    run("step", "--threads", "1", "--precision", "bfloat16")
    ((_, who, _, _),) = asked
    assert who[0] == "floor" and {"numba", "torch autocast", "torch medium", "jax scan"} < set(who)
    asked.clear()
    run("training", "--precision", "bfloat16")
    ((_, who, *_),) = asked
    assert {"numpy", "numba", "torch autocast"} <= set(who)
    asked.clear()
    assert run("step", "--contestant", "torch medium") == 2
    assert run("step", "--precision", "bfloat16", "--contestant", "torch eager") == 2
    assert asked == []


def test_step_on_a_gpu_has_its_own_floor_and_the_most_threads(asked, monkeypatch):
    with_gpu(monkeypatch)
    run("step", "--workload", "wide-4096", "--threads", "1", "3", "2", "--contestant", "numpy", "cupy")
    on_cpu = [(["floor", "numpy"], n) for n in (1, 3, 2)]
    assert [(who, n) for _, who, n, _ in asked] == [*on_cpu, (["floor gpu", "cupy"], 3)]
    asked.clear()
    run("step", "--workload", "all", "--threads", "1", "--contestant", "numpy", "cupy")
    of = {floor: [workload.name for workload, who, *_ in asked if who[0] == floor] for floor in ("floor", "floor gpu")}
    assert of == {"floor": [name for name in WORKLOADS if name != "wide-4096"], "floor gpu": list(WORKLOADS)}


def test_kernels_times_the_operations_that_it_is_asked_for(asked, tmp_path):
    assert run("kernels", "--backend", "numpy", "--operation", "adam", "elbo", "--rounds", "4") == 1  # one is wrong
    run("kernels")
    runnable = [name for name, status in kernels.available().items() if status.ok]
    assert asked == [(4, ["numpy"], ["adam", "elbo"]), (10, runnable, None)]


def test_checkers_are_chosen_by_their_names(asked, capsys):
    others = [checker.name for checker in checkers.CHECKERS[::-1]][:2]
    assert run("checkers", "--checker", *others, "--rounds", "5") == 0
    assert run("checkers") == 0
    assert asked == [(5, others[::-1]), (3, [checker.name for checker in checkers.CHECKERS])]
    assert run("checkers", "--checker", "grad") == 2
    assert "checker" in capsys.readouterr().err


def test_scaling_varies_one_thing_at_a_time(asked, tmp_path):
    kept = str(tmp_path / "scaling.json")
    words = ["--threads", "2", "--rounds", "6", "--contestant", "numba", "--json", kept]
    assert run("scaling", "--axis", "latent", "threads", *words) == 0
    who = ["floor", "numba"]
    of_latent = [(scaled("latent", value), who, 2, 6) for value in AXES["latent"].values]
    assert asked == of_latent + [(scaled("threads", n), who, n, 6) for n in (1, 2, 3)]
    assert asked[-1][0]._replace(name="example") == WORKLOADS["example"]
    latent, threads = report.load(kept)["results"]
    assert (latent["axis"], latent["rounds"], threads["axis"]) == ("latent", 6, "threads")
    assert [point["value"] for point in latent["points"]] == list(AXES["latent"].values)
    assert [point["value"] for point in threads["points"]] == [1, 2, 3]
    taken = {key: FINE[key] for key in ("threads", "flops", "rows")}
    assert all({**point, **taken} == point for point in latent["points"])
    asked.clear()
    run("scaling", "--contestant", "numba")
    assert len(asked) == sum(len(axis.values) for axis in AXES.values()) + 3
    assert {n for workload, _, n, _ in asked if "threads" not in workload.name} == {3}


def test_training_takes_seeds_in_turn_and_no_floor(asked):
    words = ["--target", "99.5", "--epochs", "4", "--seeds", "3", "--threads", "2"]
    assert run("training", *words, "--contestant", "floor", "numba", "numpy") == 0
    assert asked == [(99.5, ["numpy", "numba"], 4, 2, seed) for seed in range(3)]
    asked.clear()
    run("training")
    ((target, who, _, threads, seed),) = asked
    assert (target, threads, seed) == (training.TARGET, 3, 0)
    assert "numba" in who and "torch eager" in who and "floor" not in who


@pytest.mark.parametrize("words", COMMANDS)
def test_nothing_is_written_that_is_not_asked_for(words, asked, tmp_path):
    run(*words)
    assert asked
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_a_report_is_told_where_to_go(asked, tmp_path, capsys):
    kept = tmp_path / "kept.json"
    report.save(DOCUMENTS["kernels"], kept)
    assert run("report", str(kept)) == 2
    assert "--out" in capsys.readouterr().err
    assert {path.name for path in tmp_path.rglob("*")} == {"here", "kept.json"}
    assert not run("report", str(kept), "--out", str(tmp_path / "docs" / "page.md"))
    assert capsys.readouterr().out.split() == [str(tmp_path / "docs" / "page.md")]


@pytest.mark.parametrize("words", COMMANDS[3:])
def test_a_plot_is_drawn_where_it_is_asked_for(words, asked, tmp_path, capsys):
    path = str(tmp_path / "plot.png")
    run(*words, "--plot", path)
    assert capsys.readouterr().out.splitlines()[-1] == path
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", [[*command, "--json"] for command in COMMANDS] + [["scaling", "--plot"]])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(words, asked, capsys):
    assert run(*words, "no-such-folder/kept") == 2
    assert "no-such-folder/kept cannot be written" in capsys.readouterr().err
    assert asked == []


def test_a_benchmark_that_is_stopped_has_kept_what_it_had(asked, tmp_path, monkeypatch, capsys):
    compare, kept = measure.compare, tmp_path / "step.json"

    def stopped(workload, *rest):
        if workload.name == "paper":
            raise KeyboardInterrupt
        return compare(workload, *rest)

    monkeypatch.setattr(measure, "compare", stopped)
    words = ["--workload", "digits", "example", "paper", "--threads", "1", "--contestant", "numpy", "--json", str(kept)]
    assert run("step", *words) == 130
    assert capsys.readouterr().err.strip() == "benchmarks: stopped"
    document = json.loads(kept.read_text())
    assert document["benchmark"] == "step" and document["machine"] == MACHINE
    assert document["results"] == [json.loads(json.dumps(FINE))] * 2


@pytest.mark.parametrize("status, code", [("ok", 0), ("missing", 0), ("failed", 0), ("wrong", 1)])
def test_a_wrong_result_is_an_exit_code(status, code, asked, monkeypatch):
    first, *rest = STEP["rows"]
    result = STEP | {"rows": [first | {"status": status}, *(row | {"status": "ok"} for row in rest)]}
    monkeypatch.setattr(measure, "compare", lambda workload, *_: result if workload.name == "example, latent 5" else FINE)
    assert run("scaling", "--axis", "latent", "--contestant", "numba") == code
    monkeypatch.setattr(measure, "compare", lambda workload, *_: result if workload.name == "digits" else FINE)
    assert run("step", "--workload", "digits", "example", "--contestant", "numba") == code


def test_a_table_is_printed_as_it_is(asked, monkeypatch, capsys):
    """The lines about the machine come first, then the title, a head of two lines, the rows and the notes."""
    with_gpu(monkeypatch)
    settings = {"MKL_X": "[bold]2", "OMP_NUM_THREADS": "1"}
    described = MACHINE | {"environment": settings}
    monkeypatch.setattr(machine, "describe", lambda: described)
    monkeypatch.setattr(machine, "settings", lambda: settings)
    run("step", "--contestant", "cupy")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        *tables.describe({"machine": described, "date": lines[3][-10:]}),
        "WARNING: The environment sets MKL_X, OMP_NUM_THREADS, which may change how fast the libraries are.",
        "",
        "wide: 784-400-20 tanh, batch 128, L = 5, float32, the GPU and 1 thread; µs per step",
        "                              ÷ floor   loss  peak",
        "contestant  median  p10  min      gpu  error    MB  taken  dropped",
        "─" * 67,
        "floor gpu      150  140  130     1.00          401   0.1%        3",
        "cupy           210  200  190     1.34  8e-07   402   0.2%        4",
        *(f"  {note}" for note in tables.make_tables(DOCUMENTS["step"])[1].notes),
    ]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_result_is_printed_in_any_encoding(command, encoding, asked, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    few = {"kernels": ["--backend", "numpy"], "checkers": []}.get(*command, ["--contestant", "numpy"])
    assert run(*command, *few) < 2  # 1: some are wrong
    stream.flush()
    assert "numpy" in stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize(
    "words, told",
    [
        (["step", "--workload", "huge"], "huge"),
        (["step", "--threads", "1000000"], "1000000"),
        (["step", "--contestant", "theano"], "theano"),
        (["step", "--rounds", "0"], "rounds"),
        (["kernels", "--operation", "gamma"], "gamma"),
        (["scaling", "--threads", "1000000"], "1000000"),
        (["training", "--target", "nan"], "target"),
        (["training", "--threads", "0"], "threads"),
        (["report", "no-such-file.json", "--out", "page.md"], "no-such-file.json"),
    ],
)
def test_bad_input_is_one_sentence(words, told, asked, capsys):
    assert run(*words) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and "Traceback" not in said and len(said.splitlines()) == 1
    assert asked == []


def test_report_of_another_file(tmp_path, capsys):
    for text in ("no JSON", "{}", '{"benchmark": "step"}', '{"benchmark": "other", "results": []}', "[]"):
        (tmp_path / "other.json").write_text(text)
        assert run("report", str(tmp_path / "other.json"), "--out", str(tmp_path / "page.md")) == 2
        assert "other.json" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
