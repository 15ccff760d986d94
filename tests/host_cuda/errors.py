"""The exceptions of the stand-in."""


class KernelFault(RuntimeError):
    """A kernel broke a rule. The message says which kernel, block, thread and line it was, and what the thread did."""


class CompileException(Exception):
    """The source of a module does not compile. CuPy has an exception of this name."""


class CUDARuntimeError(RuntimeError):
    """CUDA would refuse the call. CuPy has an exception of this name."""
