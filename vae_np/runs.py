"""A run's folder: one training at a time writes it, and a killed one goes on from the checkpoint in it to the same bits."""

import contextlib
import csv
import dataclasses
import glob
import io
import json
import logging
import math
import os

import numpy as np

from vae_np.parameters import Parameters, check_array, parse, read_npz, reading, replacing

TERMS = ("total", "reconstruction", "kl", "l2")
CHECKPOINT, HISTORY, CONFIG = FILES = "checkpoint.npz", "history.csv", "config.json"


@dataclasses.dataclass
class State:
    """All that an epoch changes, and so all that a checkpoint must hold."""

    p: Parameters
    best: Parameters  # by validation total; the same as p where there is none
    optimizer: dict
    history: list = dataclasses.field(default_factory=list)  # a row per epoch

    @property
    def epoch(self):
        """How many are done."""
        return len(self.history)

    def moved(self, move):
        """The same with all its arrays where move(array) puts them: `put` and `get` of a kernel set."""
        arrays = {name: move(array) for name, array in self.optimizer.items()}
        return State(self.p.moved(move), self.best.moved(move), arrays, self.history)

    @property
    def waited(self):
        """Epochs since the best; 0 where nothing is validated."""
        totals = [row["valid_total"] for row in self.history if "valid_total" in row]
        return len(totals) - 1 - totals.index(min(totals)) if totals else 0


@contextlib.contextmanager
def locked(out):
    """`with locked(out)`: the folder, made where there is none, has no other training in it; BlockingIOError if it has.

    The kernel holds the lock, so that it ends with the process in whatever way that ends. Who only reads needs none: a
    file is replaced whole.
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
        for name in FILES:  # what a killed training was writing
            for partial in glob.glob(os.path.join(glob.escape(os.fspath(out)), f"{name}.*.partial")):
                os.unlink(partial)
        yield


def settings_of(out):
    """The settings of the run in a folder; none where it holds no checkpoint yet."""
    path = os.path.join(out, CHECKPOINT)
    if not os.path.exists(path):
        return {}
    found = read_npz(path, lambda names: [name for name in names if name == "training.state"])
    if not found:  # parameters alone
        return {}
    with reading(path, "a checkpoint of a training to resume"):
        return dict(parse("training.state", str(found["training.state"]))["settings"])


def begin(out, resume, fresh, settings, more):
    """The state to go on from: the checkpoint's where there is one, else the fresh one. Writes config.json."""
    checkpoint, state = os.path.join(out, CHECKPOINT), fresh
    if os.path.exists(checkpoint):
        if not resume:
            raise FileExistsError(f"{out} already holds a run: resume it, or choose another folder")
        state = _load(checkpoint, settings, fresh)
        before, now = _where(settings_of(out), _config(out)), _where(settings, more)
        if before != now:
            logging.getLogger("vae_np").warning(
                "%s was trained on %s and goes on on %s: its last digits will differ from those of a run that stayed there",
                out,
                before,
                now,
            )
    with replacing(os.path.join(out, CONFIG)) as file:
        file.write(json.dumps({**settings, **more}, indent=2).encode())
    if state.history:  # a kill may have come between the checkpoint and this file
        _write_history(state.history, out)
    return state


def _where(settings, more):
    """Where a training runs, as far as its last digits depend on it: in NumPy's products they do on the number of threads."""
    backend, threads = settings["backend"], more.get("threads") or 1
    return f"{backend} (threads: {threads})" if backend == "numpy" else backend


def _config(out):
    """What config.json holds; nothing where it cannot be read, for nothing that matters depends on it."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(out, CONFIG), encoding="utf-8") as file:
        return parse("text", file.read())
    return {}


def save(state, out, settings):
    """Write the checkpoint, then the history."""
    arrays = {f"optimizer.{name}": array for name, array in state.optimizer.items()}
    progress = json.dumps({"settings": settings, "history": state.history})
    best = state.best if settings["patience"] else state.p
    best.save(os.path.join(out, CHECKPOINT), **arrays, **{"training.flat": state.p.flat, "training.state": np.array(progress)})
    _write_history(state.history, out)


def _load(path, settings, fresh):
    """The checkpoint's state; ValueError unless all of it fits a training with these settings, which begins as fresh."""
    best, extra = Parameters.load_with_extra(path)
    if "training.state" not in extra:
        raise ValueError(f"{path} holds parameters but no training to resume")
    with reading(path, "a checkpoint of a training to resume"):
        progress = parse("training.state", str(extra["training.state"]))
        before = {name: progress["settings"][name] for name in settings}
    changed = [name for name in settings if settings[name] != before[name] and name != "backend"]
    if changed:
        was, given = before[changed[0]], settings[changed[0]]
        what = "other data" if changed[0] == "data" else f"{changed[0]} {was!r}, not {given!r}"
        raise ValueError(f"{os.path.dirname(path)} was trained with {what}: resume it as it was, or choose another folder")
    with reading(path, "a checkpoint of a training to resume"):
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


def not_finite(row):
    """The first column of a history row that must be finite and is not, or None.

    Under "iwae" a sample without any weight may have an infinite loss, and so the mean of all, while the bound is finite.
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
