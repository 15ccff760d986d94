"""What the tests of the GPU's kernel set on the host have in common."""

import pytest

from tests.kernels.gpu import on_host


@pytest.fixture
def every_graph_is_captured(caplog):
    """Only a warning tells that no graph could be captured: the results are the same."""
    yield
    assert not [record.message for record in caplog.get_records("call") if "could be captured" in record.message]


@pytest.fixture
def planted(monkeypatch):
    """A function that plants an error in the source files until the test ends."""
    source = on_host.DEVICE.source

    def plant(right, wrong):
        assert any(right in source(name, "float32")[0] for name in on_host.DEVICE.SOURCES)

        def with_error(*given):
            text, options = source(*given)
            return text.replace(right, wrong), options

        monkeypatch.setattr(on_host.DEVICE, "source", with_error)
        forget()

    def forget():
        on_host.DEVICE.module.cache_clear()
        on_host.DEVICE.kernel.cache_clear()

    yield plant
    monkeypatch.undo()
    forget()
