"""Timing: a process for each contestant, all pinned to the same cores, their blocks interleaved round by round."""

import contextlib
import multiprocessing
import os
import resource
import signal
import time

import numpy as np

BLOCK = 0.1  # seconds that a timed block of steps takes at least
GAP = 0.02  # seconds between two blocks
CHECKED = 20  # steps after which the losses are compared
# Of the loss, relative to the reference in double precision. By then roundings have grown to a third of it.
TOLERANCE = 1e-4


# ---------------------------------------------------------------------------------------------- in a process of its own


class Session:
    """What a contestant's process is asked to do."""

    def __init__(self, make, workload, threads):
        self.workload = workload
        self.contestant = make(workload, threads)
        self.note = self.contestant.note
        self.done = 0

    def losses(self):
        losses = self.contestant.losses(self.workload.batches(CHECKED + 1))
        return None if losses is None else [float(loss) for loss in losses]

    def calibrate(self):
        """How many steps make a block; nothing is left to compile after it."""
        self.n = calibrate(self.seconds_of)
        return self.n

    def block(self):
        """Seconds a step, after one that brings back into the caches what the others have driven out of them."""
        self.seconds_of(1)
        return self.seconds_of(self.n) / self.n

    def seconds_of(self, n):
        """Of n steps from the initial parameters, so that whoever is fast comes to no other numbers than its peers.

        Each block takes the batches after those of the last: an epoch passes through the caches as it does in training.
        """
        self.contestant.restart()
        self.contestant.ready(self.workload.batches(n, self.done))
        self.done += n
        started = time.perf_counter()
        self.contestant.go()
        return time.perf_counter() - started

    def warm(self, parts):
        """Compile what training on batches of these numbers and sizes will need: the seconds of it."""
        started = time.perf_counter()
        for n, size in parts:
            self.contestant.ready(np.zeros((n, size), np.int64))
            self.contestant.go()
        self.contestant.restart()
        return time.perf_counter() - started

    def train(self, parts):
        """Steps on arrays of batches, one (n, B) after the other: their seconds, and the parameters after them."""
        seconds = 0.0
        for rows in parts:
            self.contestant.ready(rows)
            started = time.perf_counter()
            self.contestant.go()
            seconds += time.perf_counter() - started
        return seconds, np.array(self.contestant.parameters())

    def cpu_seconds(self):
        return time.process_time()

    def about(self):
        return {"note": self.note, "peak_memory_mb": peak_memory()}


def calibrate(seconds_of):
    """The least n, but for a factor of 2, for which seconds_of(n) is a block."""
    n = 1
    seconds_of(n)  # whatever is made on the first call
    while (seconds := seconds_of(n)) < BLOCK:
        n = max(n + 1, min(100 * n, int(1.3 * n * BLOCK / max(seconds, 1e-7)) + 1))
        seconds_of(n)  # a compiled loop of another length is another program
    return n


def peak_memory():
    """The process's largest resident set, MB (2^20 bytes)."""
    try:  # ru_maxrss of a child on Linux begins with its parent's, who may have been the larger
        with open("/proc/self/status") as status:
            kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
        return int(kilobytes) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if os.uname().sysname == "Darwin" else 2**10)


def wait_for_quiet():
    """Until this process's threads sleep. OpenBLAS's spin for a tenth of a second after a product, on others' cores."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.001:
            return


def _serve(pipe, session, arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which then ends this one
    try:
        served = session(*arguments)
        pipe.send((True, None))
        while (request := pipe.recv()) is not None:
            method, given = request
            answer = getattr(served, method)(*given)
            wait_for_quiet()
            pipe.send((True, answer))
    except EOFError:  # whoever asked is gone
        pass
    except Exception as error:  # whatever another library raises is an answer
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        pipe.send((False, f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]))


# -------------------------------------------------------------------------------------------- in the one that asks them


class Failed(Exception):
    """A contestant could not do what it was asked, and why."""


class Child:
    """A `session` (a class) in its own process on those cores; `ask(method, ...)` gives what its method returns."""

    def __init__(self, cores, session, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, session, arguments), daemon=True)
        with pinned(cores):  # before it starts: libraries count the cores they may use when they are loaded
            self.process.start()
        theirs.close()
        try:
            self._answer()
        except Failed:
            self.close()
            raise

    def ask(self, method, *given):
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send((method, given))
        return self._answer()

    def _answer(self):
        try:
            fine, answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            raise Failed(f"its process ended with code {self.process.exitcode}") from None
        if not fine:
            raise Failed(answer)
        return answer

    def close(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def cores_here():
    """The numbers of the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(cores):
    """`with pinned(cores)`: this thread, and for good what it starts, on these cores; nothing where a system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def choose_cores(threads):
    """So many of this process's cores, the last ones: the first has the system's own work. ValueError for too many."""
    cores = cores_here()
    if not 1 <= threads <= len(cores):
        raise ValueError(f"threads is {threads}; this process may use {len(cores)} cores")
    return cores[-threads:]


def others_seconds(cores, children):
    """How long these cores have worked for processes other than ours; None where that cannot be known.

    A thread that shares its core holds up all that wait for it: with others about, figures of threads mean little.
    """
    try:
        with open("/proc/stat") as file:
            ticks = {name: [int(t) for t in times] for name, *times in map(str.split, file) if name.startswith("cpu")}
        own = time.process_time() + sum(child.ask("cpu_seconds") for child in children)
        # Not idle, nor waiting for a disk; what a guest takes is in its host's time already.
        busy = sum(sum(ticks[f"cpu{core}"][:3] + ticks[f"cpu{core}"][5:8]) for core in cores)
    except (OSError, KeyError, Failed):  # a container may number its cores in another way than the file does
        return None
    return busy / os.sysconf("SC_CLK_TCK") - own


def interleave(asks, rounds):
    """{name: [number]} of functions that give a number or raise Failed, called in turn, and {name: why it failed}."""
    numbers, failed, names = {name: [] for name in asks}, {}, list(asks)
    for i in range(rounds):
        for k in range(len(names)):
            name = names[(i + k) % len(names)]  # so that nobody always comes after the same one
            if name in failed:
                continue
            time.sleep(GAP)
            try:
                numbers[name].append(asks[name]())
            except Failed as error:
                failed[name] = str(error)
    return numbers, failed


def compare(workload, contestants, reference, threads, rounds, say=lambda words: None):
    """The cost of a step of each contestant: a dict for JSON.

    contestants: a list of Contestant, of which the first is the floor; reference: whom all must agree with.
    """
    cores, children, rows = choose_cores(threads), {}, {}
    with contextlib.ExitStack() as stack:

        def start(contestant):
            child = Child(cores, Session, contestant.make, workload, threads)
            stack.callback(child.close)
            return child

        say(f"{workload.name}, {threads} threads: the reference")
        wanted = reference_losses(workload, reference, cores)
        for contestant in contestants:
            say(f"{workload.name}, {threads} threads: {contestant.name} starts and is checked")
            row = rows[contestant.name] = {"name": contestant.name, "status": "ok", "reason": ""}
            if contestant.reason:
                row |= {"status": "missing", "reason": contestant.reason}
                continue
            try:
                child = start(contestant)
                row |= verdict(child.ask("losses"), wanted)
                if row["status"] == "ok":
                    row["steps_per_block"] = child.ask("calibrate")
                    children[contestant.name] = child
            except Failed as error:
                row |= {"status": "failed", "reason": str(error)}
        say(f"{workload.name}, {threads} threads: {rounds} rounds of {', '.join(children)}")
        asks = {name: (lambda child=child: child.ask("block")) for name, child in children.items()}
        before, started = others_seconds(cores, children.values()), time.perf_counter()
        seconds, failed = interleave(asks, rounds)
        after, wall = others_seconds(cores, children.values()), time.perf_counter() - started
        others = None if None in (before, after) else max(0.0, (after - before) / wall / len(cores))
        for name, reason in failed.items():
            rows[name] |= {"status": "failed", "reason": reason}
        timed = [name for name in children if name not in failed]
        for name in timed:
            rows[name] |= summary(seconds[name]) | children[name].ask("about")
            rows[name]["ratios"] = {peer: ratio(seconds[name], seconds[peer]) for peer in timed}
    arch = workload.architecture
    return {
        "workload": workload.name,
        "architecture": "-".join(map(str, (arch.n_inputs, *arch.hidden, arch.n_latent))),
        "activation": arch.activation,
        "batch_size": workload.batch_size,
        "n_samples": workload.n_samples,
        "objective": workload.objective,
        "flops": workload.flops,
        "device": contestants[0].device,
        "threads": threads,
        "cores": cores,
        "rounds": rounds,
        "share_of_others": others,
        "rows": list(rows.values()),
    }


def reference_losses(workload, reference, cores):
    child = Child(cores, Session, reference.make, workload, len(cores))
    try:
        return child.ask("losses")
    finally:
        child.close()


def verdict(losses, wanted):
    """Whether the losses before and after each of the first steps are those of the reference."""
    if losses is None:
        return {}
    losses, wanted = np.asarray(losses), np.asarray(wanted)
    errors = np.abs(losses - wanted) / np.abs(wanted)
    said = {"loss": float(losses[-1]), "loss_error": float(errors.max())}
    if losses.shape == wanted.shape and np.all(errors <= TOLERANCE):
        return said
    step = int(np.argmax(~(errors <= TOLERANCE)))
    reason = f"its loss after {step} steps is {losses[step]:.6g}; the reference's is {wanted[step]:.6g}"
    return said | {"status": "wrong", "reason": reason}


def summary(seconds):
    median, tenth = np.percentile(seconds, (50, 10))
    return {"median": float(median), "p10": float(tenth), "minimum": float(min(seconds))}


def ratio(seconds, others):
    """The median over the rounds of the one's seconds by the other's in the same round: what slows both cancels."""
    return float(np.median(np.asarray(seconds) / np.asarray(others)))
