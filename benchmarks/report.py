"""Files of results, and pages that show them."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from benchmarks import plots, tables
from vae_np.parameters import reading, replacing
from vae_np.plots import write


def save(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a document as JSON, either whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the document in a file.

    Raises
    ------
    ValueError
        The file was not written by `save`.
    """
    with reading(path, "a file that `python -m benchmarks ... --json` wrote"):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if document["benchmark"] not in tables.TABLES:
            raise ValueError(f"its benchmark is {document['benchmark']!r}")
        for show in (tables.describe, tables.make_tables, plots.draw):  # they fail where anything that a page needs is missing
            show(document)
    return document


def page(paths: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]) -> list[str]:
    """Write a Markdown page of the results in files, with its plots beside it, and return the paths of what was written."""
    documents = [load(path) for path in paths]
    out, written, lines = pathlib.Path(out), [], ["# Benchmarks", ""]
    lines += [
        "`python -m benchmarks report` wrote this page from the results of `python -m benchmarks`.",
        "",
    ]
    os.makedirs(out.parent, exist_ok=True)
    for i, document in enumerate(documents, 1):
        lines += [f"## {document['benchmark']}", "", *(f"* {line}" for line in tables.describe(document)), ""]
        figure = plots.draw(document)
        if figure is not None:
            name = f"{out.stem}-{i}-{document['benchmark']}.png"
            written.append(write(figure, os.fspath(out.parent / name)))
            lines += [f"![{document['benchmark']}]({name})", ""]
        for table in tables.make_tables(document):
            lines += _markdown(table)
    with replacing(out) as file:
        file.write("\n".join(lines).encode())
    return [os.fspath(out), *written]


def _markdown(table: tables.Table) -> list[str]:
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
