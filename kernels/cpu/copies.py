"""Copies, transpositions and prefetches for compiled code, in the instructions of the processor."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from vae_np.kernels.cpu.emit import VECTOR, VECTORS, Emit
from vae_np.kernels.cpu.jit import intrinsic


@intrinsic
def prefetch(typingctx, array, i, j):
    """Load the cache line of array[i, j] into the second cache, while something else is computed."""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, array.dtype)
        pointer = e.at(cgutils.get_item_pointer(context, builder, array, e.array(array, args[0]), args[1:]))
        e.prefetch(pointer, for_writing=1, locality=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), emit


@intrinsic
def copy(typingctx, a, b):
    """b[: len(a), : a.shape[1]] = a, where both have contiguous rows."""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        (a_down, _), (b_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (A, B))
        rows, columns = cgutils.unpack_tuple(builder, A.shape, 2)

        def row(i, a_row, b_row):
            cgutils.raw_memcpy(builder, b_row, a_row, builder.mul(columns, e.integer(e.bytes)), 1)
            return [builder.add(i, e.integer(1)), e.at(a_row, a_down), e.at(b_row, b_down)]

        e.loop([e.integer(0), e.at(A.data), e.at(B.data)], lambda i, *_: builder.icmp_signed("<", i, rows), row)
        return context.get_dummy_value()

    return types.void(a, b), emit


@intrinsic
def pack_panels(typingctx, a, b, c):
    """Copy a into b, which has one axis: first the columns of the first tile of c, row after row, then those of the next."""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype, VECTOR * 8 // c.dtype.bitwidth)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        a_down, _ = cgutils.unpack_tuple(builder, A.strides, 2)
        rows, columns = cgutils.unpack_tuple(builder, A.shape, 2)
        tile = VECTORS * e.lanes * e.bytes
        panel, size = builder.mul(rows, e.integer(tile)), builder.mul(columns, e.integer(e.bytes))

        def row(i, a_row, b_row):
            def row_of_tile(left, source, target):
                def whole():
                    cgutils.raw_memcpy(builder, target, source, e.integer(tile), 1)
                    return []

                def part():
                    cgutils.memset(builder, target, e.integer(tile), 0)
                    cgutils.raw_memcpy(builder, target, source, left, 1)
                    return []

                e.choose(builder.icmp_signed(">=", left, e.integer(tile)), whole, part)
                return [builder.sub(left, e.integer(tile)), e.at(source, tile), e.at(target, panel)]

            e.loop([size, a_row, b_row], lambda left, *_: builder.icmp_signed(">", left, e.integer(0)), row_of_tile)
            return [builder.add(i, e.integer(1)), e.at(a_row, a_down), e.at(b_row, tile)]

        e.loop([e.integer(0), e.at(A.data), e.at(B.data)], lambda i, *_: builder.icmp_signed("<", i, rows), row)
        return context.get_dummy_value()

    return types.void(a, b, c), emit


@intrinsic
def transpose_block(typingctx, a, b, i, j):
    """b[j : j + n, i : i + n] = a[i : i + n, j : j + n].T, where n is the number of lanes of a vector."""

    def emit(context, builder, signature, args):
        e = Emit(context, builder, a.dtype)
        A, B = e.array(a, args[0]), e.array(b, args[1])
        (a_down, _), (b_down, _) = (cgutils.unpack_tuple(builder, array.strides, 2) for array in (A, B))

        def corner(array, down, row, column):
            return e.at(array.data, builder.mul(row, down), builder.mul(column, e.integer(e.bytes)))

        address, rows = corner(A, a_down, args[2], args[3]), []
        for _ in range(e.lanes):
            rows.append(e.load(address))
            address = e.at(address, a_down)
        address = corner(B, b_down, args[3], args[2])
        for row in e.transposed(rows):
            e.store(row, address)
            address = e.at(address, b_down)
        return context.get_dummy_value()

    return types.void(a, b, i, j), emit


@intrinsic
def copy_bytes(typingctx, target, source, n):
    """Copy n bytes from one address to another."""

    def emit(context, builder, signature, args):
        to, start = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in args[:2])
        cgutils.raw_memcpy(builder, to, start, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit
