"""The progress of a training: what it waits for, and how far it is."""

import io
import logging
import re

import pytest
from rich.console import Console

from vae_np.cli.progress import training_progress

LOG = logging.getLogger("vae_np.compilation")
ROW = {"epoch": 1, "beta": 1.0, "train_total": 3.0, "train_reconstruction": 2.0, "train_kl": 1.0, "train_l2": 0.0}


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_of_a_terminal_shows_how_much_is_compiled(terminal, caplog):
    status = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    with training_progress(Console(file=io.StringIO()), status, "elbo", 2) as show:
        LOG.warning("compiling: %d of %d", 1, 22)
        LOG.info("compiling: %d of %d", 7, 22)
        show(1, 10, ROW)
    shown, logged = status.file.getvalue(), [record.getMessage() for record in caplog.records]
    shown = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", shown)  # without colours
    assert bool(re.search("━ compiling: 7 of 22 .*epoch 1/2 ━.*━ loss 3.00 .*[:-]", shown, re.DOTALL)) == terminal
    assert logged == ([] if terminal else ["compiling: 1 of 22"])
    LOG.warning("afterwards")
    assert "afterwards" in caplog.text and not LOG.isEnabledFor(logging.INFO)
