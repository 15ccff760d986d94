"""Snapshots: the parameters of a few epochs of a training, from which pictures of its course can be drawn.

Which epochs are kept depends only on how many are done. So a training that is resumed keeps the same ones as a training that was
never stopped, also where it is resumed for more epochs than it had before.
"""

import os

import numpy as np

from vae_np.architecture import Architecture
from vae_np.parameters import Parameters, check_array, read_npz, reading, replacing

FILE = "snapshots.npz"
WHOLE = "a whole file of snapshots"  # what the file must be


def epochs_kept(n: int, epoch: int) -> list[int]:
    """The epochs, at most n of them, whose parameters are kept after this epoch.

    They are 0, which is before the first epoch, and the powers of 2; or those of 4, of 16, and so on, where there would be more
    than n.

    Examples
    --------
    >>> epochs_kept(6, 10), epochs_kept(6, 16), epochs_kept(6, 200)
    ([0, 1, 2, 4, 8], [0, 1, 2, 4, 8, 16], [0, 1, 4, 16, 64])
    """
    base = 2
    while True:
        kept, power = [0], 1
        while power <= epoch:
            kept.append(power)
            power *= base
        if len(kept) <= n or base > epoch:
            return kept[: max(n, 0)]
        base *= base


def taken(
    before: dict[int, Parameters], n: int, epoch: int, p: Parameters, out: str | os.PathLike | None = None
) -> dict[int, Parameters]:
    """{epoch: the parameters after it} when this epoch is done, with only the epochs that are kept.

    Parameters
    ----------
    before : dict of int to Parameters
        The snapshots of the epochs before.
    n : int
        The largest number of snapshots.
    epoch : int
        The epoch that is done.
    p : Parameters
        The parameters after this epoch, which are copied.
    out : path, optional
        The run folder. If other epochs are kept than before, its file is replaced whole.
    """
    kept = epochs_kept(n, epoch)
    found = {at: snapshot for at, snapshot in before.items() if at in kept} | ({epoch: p.copy()} if epoch in kept else {})
    if out is not None and found.keys() != before.keys():
        with replacing(os.path.join(out, FILE)) as file:
            np.savez(
                file, epochs=np.array(list(found), np.int64), flat=np.stack([snapshot.flat for snapshot in found.values()])
            )
    return found


def load(out: str | os.PathLike, architecture: Architecture, last: int | None = None) -> dict[int, Parameters]:
    """{epoch: the parameters after it} of the file of a run folder; none where the run has no such file.

    Parameters
    ----------
    out : path
        The run folder.
    architecture : Architecture
        The architecture of the run.
    last : int, optional
        Later epochs are left out.

    Raises
    ------
    ValueError
        The file is not whole, or it is that of another architecture.
    """
    path = os.path.join(out, FILE)
    if not os.path.exists(path):
        return {}
    arrays = read_npz(path)
    with reading(path, WHOLE):
        epochs, flat = arrays["epochs"], arrays["flat"]
        size = Parameters.zeros(architecture).flat.size
        check_array("epochs", epochs, (len(flat),), "int64")
        check_array("flat", flat, (len(epochs), size), flat.dtype.name)
        found = {int(epoch): Parameters(architecture, np.array(row)) for epoch, row in zip(epochs, flat)}
    return {epoch: p for epoch, p in found.items() if last is None or epoch <= last}
