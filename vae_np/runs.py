"""Run folders: only one training at a time writes into one, and a training that was killed can be resumed to the same bits.

A folder holds checkpoint.npz (all that a resume needs), history.csv (a row for each epoch) and config.json (the settings). Where
snapshots are asked for, it also holds snapshots.npz.
"""

import contextlib
import csv
import dataclasses
import glob
import io
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_np import snapshots
from vae_np.architecture import check_count
from vae_np.kernels.contract import FULL
from vae_np.parameters import Parameters, check_array, parse, read_npz, reading, replacing

TERMS = ("total", "reconstruction", "kl", "l2")
CHECKPOINT, HISTORY, CONFIG = FILES = "checkpoint.npz", "history.csv", "config.json"
DESCRIPTION = "a description of a run of `vae-np train`"  # what config.json must be
RESUMABLE = "a checkpoint of a training to resume"  # what checkpoint.npz must be
LATER: dict[str, Any] = {
    "precision": FULL,
    "estimator": "total",
    "exchange": "rows",
    "parts": 1,
    "snapshots": 0,
}  # settings that a checkpoint of an older version lacks, and what they were then


@dataclasses.dataclass
class State:
    """Everything that an epoch changes, and so everything that a checkpoint must hold."""

    p: Parameters
    best: Parameters  # those of the lowest validation total; without validation the same as p
    optimizer: dict[str, NDArray]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)  # a row for each epoch

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return len(self.history)

    def moved(self, move: Callable[[NDArray], NDArray]) -> "State":
        """The same state with all its arrays where move(array) puts them; move is `put` or `get` of a kernel set."""
        arrays = {name: move(array) for name, array in self.optimizer.items()}
        return State(self.p.moved(move), self.best.moved(move), arrays, self.history)

    @property
    def waited(self) -> int:
        """The number of epochs since the best one; 0 without validation."""
        totals = [row["valid_total"] for row in self.history if "valid_total" in row]
        return len(totals) - 1 - totals.index(min(totals)) if totals else 0


@contextlib.contextmanager
def locked(out: str | os.PathLike) -> Iterator[None]:
    """`with locked(out)`: no other training can write into the folder, which is made if it does not exist.

    The operating system holds the lock, so that it ends with the process in whatever way that ends. To read a folder needs no
    lock, because files are replaced whole.

    Raises
    ------
    BlockingIOError
        Another training is running in the folder.
    OSError
        The folder cannot be made or locked.
    """
    import filelock

    os.makedirs(out, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(filelock.FileLock(os.path.join(out, ".lock"), blocking=False))
        except filelock.Timeout:
            raise BlockingIOError(f"another training is running in {out}: let it end, or choose another folder") from None
        except OSError as error:
            if error.filename is not None:
                raise
            why = f"the folder cannot be locked ({error.strerror}): choose one on a local disk"
            raise OSError(error.errno, why, os.fspath(out)) from error
        for name in (*FILES, snapshots.FILE):  # what a training that was killed left half written
            for partial in glob.glob(os.path.join(glob.escape(os.fspath(out)), f"{name}.*.partial")):
                os.unlink(partial)
        yield


def read_config(out: str | os.PathLike) -> dict[str, Any]:
    """What config.json says about a run: its settings, the number of epochs, and the notes of whoever called `train`.

    Raises
    ------
    ValueError
        The folder has no config.json, or it does not describe a run.
    """
    path = os.path.join(out, CONFIG)
    if not os.path.isfile(path):
        raise ValueError(f"{os.fspath(out)} is not a run folder: it has no {CONFIG}")
    with reading(path, DESCRIPTION), open(path, encoding="utf-8") as file:
        config = parse("text", file.read())
        check_count("its epochs", config["epochs"])
        for side in config.setdefault("image_shape", None) or ():
            check_count("a side of its image_shape", side)
    return config


def settings_of(out: str | os.PathLike) -> dict[str, Any]:
    """The settings in the checkpoint of a run; none where there is no checkpoint yet."""
    return _progress(out)[0]


def epoch_of(out: str | os.PathLike) -> int:
    """The epoch after which the parameters of a checkpoint were taken: the last one, or with patience the best one."""
    settings, history = _progress(out)
    totals = [row["valid_total"] for row in history] if settings.get("patience") else []
    return 1 + totals.index(min(totals)) if totals else len(history)


def _progress(out):
    """The settings and the history in the checkpoint of a run; none where there is no checkpoint yet, or parameters alone."""
    path = os.path.join(out, CHECKPOINT)
    if not os.path.exists(path):
        return {}, []
    found = read_npz(path, lambda names: [name for name in names if name == "training.state"])
    if not found:
        return {}, []
    with reading(path, RESUMABLE):
        progress = parse("training.state", str(found["training.state"]))
        return dict(progress["settings"]), list(progress["history"])


def begin(out: str | os.PathLike, resume: bool, fresh: State, settings: dict[str, Any], more: dict[str, Any]) -> State:
    """Write config.json, and return the state that the training begins with.

    Parameters
    ----------
    out : path
        The folder, which is `locked`.
    resume : bool
        Whether a checkpoint may be in the folder. Its state is returned then.
    fresh : State
        The state of a training that begins. A checkpoint is read into its arrays.
    settings : dict
        What a resumed training must have in common with the checkpoint.
    more : dict
        What config.json holds besides the settings.

    Raises
    ------
    FileExistsError
        The folder holds a checkpoint, and `resume` is False.
    ValueError
        The checkpoint is not whole, or was made with other settings.
    """
    checkpoint, state = os.path.join(out, CHECKPOINT), fresh
    if os.path.exists(checkpoint):
        if not resume:
            raise FileExistsError(f"{out} already holds a run: resume it, or choose another folder")
        state = _load(checkpoint, settings, fresh)
        before, now = _place(settings_of(out), _threads(out)), _place(settings, more.get("threads"))
        if before != now:
            logging.getLogger("vae_np").warning(
                "%s was trained on %s and is resumed on %s: its last digits will differ from those of a run that stayed there",
                out,
                before,
                now,
            )
    with replacing(os.path.join(out, CONFIG)) as file:
        file.write(json.dumps({**settings, **more}, indent=2).encode())
    if state.history:  # the training may have been killed after the checkpoint was written and before this file was
        _write_history(state.history, out)
    return state


def _place(settings, threads):
    """Where a training runs, as far as its last digits depend on that: NumPy's products depend on the number of threads."""
    backend = settings["backend"]
    return f"{backend} (threads: {threads or 1})" if backend == "numpy" else backend


def _threads(out):
    """The number of threads in config.json; None also where that file is damaged, because it only serves a warning."""
    try:
        return read_config(out).get("threads")
    except (OSError, ValueError):
        return None


def save(state: State, out: str | os.PathLike, settings: dict[str, Any]) -> None:
    """Write the checkpoint, then the history; each file is replaced whole."""
    arrays = {f"optimizer.{name}": array for name, array in state.optimizer.items()}
    progress = json.dumps({"settings": settings, "history": state.history})
    best = state.best if settings["patience"] else state.p
    best.save(os.path.join(out, CHECKPOINT), **arrays, **{"training.flat": state.p.flat, "training.state": np.array(progress)})
    _write_history(state.history, out)


def _load(path, settings, fresh):
    """The checkpoint's state; ValueError unless all of it fits a training with these settings that begins as `fresh`."""
    best, extra = Parameters.load_with_extra(path)
    if "training.state" not in extra:
        raise ValueError(f"{path} holds parameters but no training to resume")
    with reading(path, RESUMABLE):
        progress = parse("training.state", str(extra["training.state"]))
        before = {name: (LATER | progress["settings"])[name] for name in settings}
    changed = [name for name in settings if settings[name] != before[name] and name != "backend"]
    if changed:
        was, given = before[changed[0]], settings[changed[0]]
        what = "other data" if changed[0] == "data" else f"{changed[0]} {was!r}, not {given!r}"
        raise ValueError(f"{os.path.dirname(path)} was trained with {what}: resume it as it was, or choose another folder")
    with reading(path, RESUMABLE):
        if best.architecture != fresh.p.architecture or best.flat.dtype != fresh.p.flat.dtype:
            raise ValueError(f"its settings are not those of its parameters, {best!r}")
        _check_history(progress["history"], validated=len(settings["data"]) == 2)
        kept = {"training.flat": fresh.p.flat}
        kept |= {f"optimizer.{name}": array for name, array in fresh.optimizer.items()}
        for name, array in kept.items():
            check_array(name, extra[name], array.shape, array.dtype.name)
            array[...] = extra[name]
    return State(fresh.p, best, fresh.optimizer, progress["history"])


def _check_history(history, validated):
    columns = ["epoch", "beta", "learning_rate", *(f"train_{term}" for term in TERMS)]
    columns += [f"valid_{term}" for term in TERMS if validated] + ["seconds"]
    if not (isinstance(history, list) and history):
        raise ValueError("its history is not a list of epochs")
    for epoch, row in enumerate(history, 1):
        if list(row) != columns or row["epoch"] != epoch:
            raise ValueError(f"row {epoch} of its history is not that of epoch {epoch}")
        if not all(type(value) in (int, float) for value in row.values()) or not_finite(row):
            raise ValueError(f"row {epoch} of its history holds a value that is not a finite number")


def not_finite(row: dict[str, float]) -> str | None:
    """The first column of a history row that must be finite and is not, or None.

    With importance weights a sample of weight 0 may have an infinite reconstruction or KL while the bound is finite, so these
    two may be infinite.
    """
    for name, value in row.items():
        of_a_term = name.endswith(("_reconstruction", "_kl"))
        if math.isnan(value) or (math.isinf(value) and not of_a_term):
            return name
    return None


def _write_history(history, out):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with replacing(os.path.join(out, HISTORY)) as file:
        file.write(text.getvalue().encode())
