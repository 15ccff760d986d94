"""The exercises in a notebook: every cell runs, and what it shows says whether a sign or a size is wrong, and no value."""

import json
import re

import pytest

from tests.vae_np.study.students import RIGHT_ANSWERS, WRONG_ANSWERS, function_of, indented
from vae_np.study import notebook, workbook
from vae_np.study.answers import check
from vae_np.study.exercises import EXERCISES


def cells_of(path):
    return json.loads(path.read_text())["cells"]


def code(cell):
    return "".join(cell["source"])


@pytest.fixture
def path(tmp_path):
    notebook.write(tmp_path / "exercises.ipynb")
    return tmp_path / "exercises.ipynb"


def test_there_is_a_cell_for_each_exercise(path):
    functions = [code(cell) for cell in cells_of(path) if "check(" in code(cell) and cell["cell_type"] == "code"]
    assert [re.search(r"^def (\w+)", function, re.MULTILINE)[1] for function in functions] == list(EXERCISES)
    assert all(function.endswith(f"check({name})") for function, name in zip(functions, EXERCISES))
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        notebook.write(path)
    assert path.read_bytes() == before


def test_every_cell_runs_with_wrong_answers_and_with_right_ones(path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    wrong = {name: body for name, body, _ in reversed(WRONG_ANSWERS)}
    right = {name: bodies[0] for name, bodies in RIGHT_ANSWERS.items()}
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    start, functions = book.cells[1], [cell for cell in book.cells if cell.source.startswith("def ")]
    cells = [start]
    for cell, name in zip(functions, EXERCISES):
        for body in (workbook.BODY, wrong.get(name, "pass"), right[name]):
            cells.append(nbformat.v4.new_code_cell(cell.source.replace(f"    {workbook.BODY}", indented(body))))
    cells.append(nbformat.v4.new_code_cell("hint('adam')"))
    book.cells = cells
    nbclient.NotebookClient(book, timeout=120).execute()
    shown = [cell.outputs[0]["data"]["text/html"] for cell in book.cells[1:-1]]
    for i, name in enumerate(EXERCISES):
        blank, off, done = shown[3 * i : 3 * i + 3]
        assert f"not begun: {name}" in blank and f"not right yet: {name}" in off and f"right: {name}" in done
    assert "Hint 1 of" in book.cells[-1].outputs[0]["text"]


def test_heat_maps_show_signs_and_ratios_and_no_value():
    verdict = check(function_of("affine_backward", "dx[...] = dy @ W.T\ndx[0] *= -1\ndx[1] *= 2\ndx[2] = np.nan"))
    shown = notebook.html_of(verdict)
    signs, sizes = re.findall(r"<svg.*?</svg>", shown, re.DOTALL)

    def count(picture, kind):
        return picture.count(f'fill="{notebook.COLOURS[kind]}"')

    assert (count(signs, "other sign"), count(signs, "not a number"), count(signs, "right")) == (11, 11, 55)
    assert (count(sizes, "too large"), count(sizes, "not a number"), count(sizes, "right")) == (11, 11, 55)
    assert "2 times the right size" in sizes and "the sign is wrong" in signs
    wanted = verdict.arrays[0][2]
    assert not any(f"{value:.3g}" in shown for value in wanted.ravel()[:20])
    assert 'role="img"' in shown and "aria-label" in shown


def test_a_right_answer_has_no_heat_map_and_text_is_escaped():
    assert "<svg" not in check(EXERCISES["affine_backward"].original)._repr_html_()
    shown = notebook.html_of(check(function_of("affine_backward", "print('<b>')\nreturn undefined < 1")))
    assert "&lt;b&gt;" in shown and "<b>\n" not in shown and "undefined &lt; 1" in shown
