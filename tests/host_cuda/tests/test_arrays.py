"""Arrays: they do not mix with those of NumPy, and only some calls wait."""

import numpy as np
import pytest

from tests import host_cuda as cp


def test_device_arrays_do_not_mix_with_those_of_numpy():
    device, host = cp.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    for mix in (
        lambda: device + host,
        lambda: host + device,
        lambda: np.asarray(device),
        lambda: np.sum(device),
        lambda: device.__setitem__(0, host[0]),
        lambda: cp.copyto(device, host),
        lambda: np.exp(host, out=device),  # pyright: ignore[reportArgumentType, reportCallIssue]  # wrong on purpose
    ):
        with pytest.raises((TypeError, ValueError)):
            mix()
    with pytest.raises(TypeError):
        host[...] = device
    assert type(device + 1) is cp.ndarray and (2 * (device + 1) == device + 2).get().all()


def test_a_copy_has_the_order_of_what_it_is_a_copy_of():
    host = np.arange(12.0).reshape(3, 4)
    for right in (host, host.T, host[:, ::2]):
        copy = cp.asarray(right)
        assert copy.flags.f_contiguous == right.flags.f_contiguous and (copy.get() == right).all()


def test_views_share_their_memory():
    device = cp.asarray(np.arange(12.0).reshape(3, 4))
    view = device[1:, 2]
    view[...] = -1
    device.T[0].fill(-2)
    device.reshape(-1)[1] = 7
    assert view.data.ptr == device.data.ptr + 6 * 8 and not view.flags.c_contiguous and device[2, 3].shape == ()
    np.testing.assert_array_equal(device.get(), [[-2, 7, 2, 3], [-2, 5, -1, 7], [-2, 9, -1, 11]])
    device.set(np.ones((3, 4)))
    assert device.view(np.uint8).reshape(3, -1).shape == (3, 32) and (device.copy().get() == 1).all()
    for wrong in (np.ones((4, 3)), np.ones((3, 4), np.float32)):
        with pytest.raises((TypeError, ValueError)):
            device.set(wrong)


def test_synchronisations_are_counted():
    x = cp.full((), 1, np.float32)
    before = cp.synchronisations()
    x += 1
    x.set(np.array(3, np.float32))
    assert cp.synchronisations() == before
    waits = (x.get, lambda: cp.asnumpy(x), lambda: float(x), lambda: bool(x), x.item, cp.Stream().synchronize)
    for n, wait in enumerate(waits, 1):
        wait()
        assert cp.synchronisations() == before + n
