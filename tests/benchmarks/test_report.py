"""Files hold what was saved, pages show all of it, and a file that lacks something is refused."""

import json

import pytest

from benchmarks import report, tables
from tests.benchmarks.results import DOCUMENTS, KERNELS, document


@pytest.fixture
def kept(tmp_path):
    """The paths of documents, one of each benchmark."""
    paths = []
    for benchmark, of_it in DOCUMENTS.items():
        paths.append(str(tmp_path / f"{benchmark}.json"))
        report.save(of_it, paths[-1])
    return paths


def test_files_hold_what_was_saved(kept):
    assert [report.load(path) for path in kept] == list(DOCUMENTS.values())


def test_page(kept, tmp_path):
    """It shows all documents, each with the lines about its machine, its plot and its tables."""
    out = tmp_path / "docs" / "page.md"
    written = report.page(kept, out)
    plots = [out.parent / f"page-{name}.png" for name in ("1-step", "3-scaling", "4-training")]
    assert written == [str(path) for path in (out, *plots)]
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in written[1:])
    text = out.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Benchmarks",
        "## step",
        "## kernels",
        "## scaling",
        "## training",
        "## checkers",
    ]
    end = text[text.index("## scaling") :]
    about = "\n".join(f"* {line}" for line in tables.describe(DOCUMENTS["scaling"]))
    assert end.startswith(f"""## scaling

{about}

![scaling](page-3-scaling.png)

**example at several values of batch, 2 threads; µs per step, median**

| batch | floor | numba | numpy |
|---|---:|---:|---:|
| 16 | 345 | 313 | failed |
| 64 | 662 | 636 | 3985 |
| 32 | 461 | missing | 3224 |

* WARNING: Disturbed blocks are kept of numba. Measure again when nothing else runs.
* numpy: out of memory
* numba: no compiler

## training
""")
    assert "GPU: A GPU" in text[: text.index("## kernels")] and "GPU: A GPU" not in end


def test_a_bar_in_a_cell_does_not_end_it(tmp_path):
    row = KERNELS["rows"][2] | {"name": "a|b"}
    report.save(document("kernels", KERNELS | {"rows": [row]}), tmp_path / "kernels.json")
    report.page([tmp_path / "kernels.json"], tmp_path / "page.md")
    assert "| a\\|b | numpy | wrong |" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize(
    "benchmark, where",
    [
        ("step", ["machine", "blas"]),
        ("step", ["results", 1, "rows", 0, "minimum"]),
        ("step", ["results", 0, "flops"]),
        ("kernels", ["results", 0, "rows", 1, "share_of_bandwidth"]),
        ("scaling", ["results", 0, "points", 2, "rows", 1]),
        ("training", ["results", 0, "rows", 1, "history"]),
        ("checkers", ["results", 0, "rows", 1, "missed"]),
        ("training", ["results", 0, "rows", 3, "history", 0, "test"]),
    ],
)
def test_a_file_that_lacks_something_is_refused_in_a_sentence(benchmark, where, tmp_path):
    """A line, a table or a plot needs it."""
    path = tmp_path / "kept.json"
    report.save(DOCUMENTS[benchmark], path)
    lacking = json.loads(path.read_text())
    *outer, last = where
    within = lacking
    for key in outer:
        within = within[key]
    del within[last]
    path.write_text(json.dumps(lacking))
    with pytest.raises(ValueError, match="kept.json"):
        report.load(path)
