"""The instructions of AMX as compiled functions: so its products are computed on any processor with vectors of 64 bytes.

They do what Intel's Software Developer's Manual says of them, and stop the process where it says that the processor raises an
exception. `install` must be called before the first product is compiled.
"""

import ctypes

import llvmlite.binding
import numpy as np

from vae_np.kernels.cpu import amx

tiles = np.zeros((8, 16, 64), np.uint8)
shapes = np.zeros((8, 2), np.int64)  # the rows of each tile, and the bytes of a row
counts = np.zeros(3, np.int64)  # of configurations, of products, and of configurations that are in force


def stop(message):
    print(message, flush=True)
    ctypes.CDLL(None)._exit(70)


def ldtilecfg(address):
    memory = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8)), (64,))
    if memory[0] != 1 or memory[1:16].any() or memory[32:48].any() or memory[56:].any():
        stop("a reserved byte of the configuration is not 0, or the palette is not 1")
    row_bytes = memory[16:32].view(np.uint16)
    for tile in range(8):
        shapes[tile] = memory[48 + tile], row_bytes[tile]
    if (shapes[:, 0] > 16).any() or (shapes[:, 1] > 64).any() or ((shapes[:, 0] == 0) != (shapes[:, 1] == 0)).any():
        stop("a tile has a wrong shape")
    tiles[:] = 0
    counts[0] += 1
    counts[2] = 1


def tilerelease():
    if not counts[2]:
        stop("nothing is configured")
    counts[2] = 0


def shape_of(tile):
    if not counts[2] or not shapes[tile].all():
        stop("the tile is not configured")
    return shapes[tile]


def rows_at(address, stride, rows, row_bytes):
    for row in range(rows):
        yield row, np.ctypeslib.as_array(ctypes.cast(address + row * stride, ctypes.POINTER(ctypes.c_uint8)), (row_bytes,))


def tilezero(tile):
    shape_of(tile)
    tiles[tile] = 0


def tileloadd64(tile, address, stride):
    rows, row_bytes = shape_of(tile)
    tiles[tile] = 0
    for row, memory in rows_at(address, stride, rows, row_bytes):
        tiles[tile, row, :row_bytes] = memory


def tilestored64(tile, address, stride):
    rows, row_bytes = shape_of(tile)
    for row, memory in rows_at(address, stride, rows, row_bytes):
        memory[:] = tiles[tile, row, :row_bytes]


def tdpbf16ps(c, a, b):
    (c_rows, c_bytes), (a_rows, a_bytes), (b_rows, b_bytes) = map(shape_of, (c, a, b))
    if c_rows != a_rows or c_bytes != b_bytes or a_bytes // 4 != b_rows:
        stop("the shapes of the tiles do not fit")
    counts[1] += 1
    words_of_a, words_of_b = tiles[a, :a_rows, :a_bytes].view(np.uint32), tiles[b, :b_rows, :b_bytes].view(np.uint32)
    sums = tiles[c, :c_rows, :c_bytes].view(np.float32)

    def halves(words):
        return (words << np.uint32(16)).view(np.float32), (words & np.uint32(0xFFFF0000)).view(np.float32)

    of_halves = []
    for x, y in zip(halves(words_of_a), halves(words_of_b)):
        total = np.zeros(sums.shape, np.float64)
        for k in range(b_rows):  # a multiply-add rounds once
            total = (total + x[:, k, None].astype(np.float64) * y[k]).astype(np.float32).astype(np.float64)
        of_halves.append(total.astype(np.float32))
    sums += of_halves[0] + of_halves[1]


_signatures = {
    ldtilecfg: [ctypes.c_int64],
    tilerelease: [],
    tilezero: [ctypes.c_int8],
    tileloadd64: [ctypes.c_int8, ctypes.c_int64, ctypes.c_int64],
    tilestored64: [ctypes.c_int8, ctypes.c_int64, ctypes.c_int64],
    tdpbf16ps: [ctypes.c_int8] * 3,
}
_callbacks = []


def install():
    """Let compiled code call these functions in place of the instructions."""
    amx.PERMITTED, amx.INSTRUCTIONS = True, "emulated."
    for function, kinds in _signatures.items():
        callback = ctypes.CFUNCTYPE(None, *kinds)(function)
        _callbacks.append(callback)
        llvmlite.binding.add_symbol(amx.INSTRUCTIONS + function.__name__, ctypes.cast(callback, ctypes.c_void_p).value)
