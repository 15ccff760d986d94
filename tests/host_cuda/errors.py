"""The exceptions of the stand-in."""

# {status: (name, text)} of CUDA's runtime, and of its driver
RUNTIME = {
    1: ("cudaErrorInvalidValue", "invalid argument"),
    101: ("cudaErrorInvalidDevice", "invalid device ordinal"),
    400: ("cudaErrorInvalidResourceHandle", "invalid resource handle"),
    401: ("cudaErrorIllegalState", "the operation cannot be performed in the present state"),
    801: ("cudaErrorNotSupported", "operation not supported"),
    900: ("cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"),
    901: ("cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"),
    902: ("cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"),
    903: ("cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"),
    904: ("cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"),
    905: ("cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"),
    906: ("cudaErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing blocking stream"),
    907: ("cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"),
}
DRIVER = {
    1: ("CUDA_ERROR_INVALID_VALUE", "invalid argument"),
    500: ("CUDA_ERROR_NOT_FOUND", "named symbol not found"),
}


class KernelFault(RuntimeError):
    """A kernel broke a rule. The message says which kernel, block, thread and line it was, and what the thread did."""


class CompileException(Exception):
    """The source of a module does not compile. CuPy has an exception of this name."""

    def __init__(self, msg: str, source: str, name: str, options: tuple[str, ...], backend: str = "nvrtc") -> None:
        super().__init__(msg)
        self.source, self.name, self.options, self.backend = source, name, options, backend


class CUDARuntimeError(RuntimeError):
    """The runtime of CUDA refuses a call. CuPy has an exception of this name."""

    def __init__(self, status: int) -> None:
        super().__init__(": ".join(RUNTIME[status]))
        self.status = status


class CUDADriverError(RuntimeError):
    """The driver of CUDA refuses a call. CuPy has an exception of this name."""

    def __init__(self, status: int) -> None:
        super().__init__(": ".join(DRIVER[status]))
        self.status = status


def because(error: RuntimeError, reason: str) -> RuntimeError:
    """Return the error with a note. CUDA only has its status, but a reader of a test wants to know the reason."""
    error.add_note(reason)
    return error
