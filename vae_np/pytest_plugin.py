"""A plugin of pytest: the fixture `check_gradients`, and reports that show first what is wrong with a gradient.

pytest loads it in every test run of an environment where vae_np is installed. So it imports nothing until a test asks for it.
"""

import functools
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest

METHODS = ("auto", "complex", "richardson", "central")  # those of vae_np.testing, which is not imported here
KIT = "vae_np.testing"
TITLE = "gradients"  # of the first part of a report


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradients", "gradients (vae_np)")
    group.addoption(
        "--gradients-method",
        choices=METHODS,
        default="auto",
        help="How the fixture check_gradients computes derivatives, in tests that do not say it themselves. By default auto.",
    )


@pytest.fixture
def check_gradients(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """The function `vae_np.testing.check_gradients`, whose method is that of --gradients-method if the test gives none."""
    from vae_np import testing

    return functools.partial(testing.check_gradients, method=str(pytestconfig.getoption("--gradients-method")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """If a check of vae_np.testing has failed, keep its message for the report, and leave its own lines out of the traceback."""
    if (
        call.excinfo is None
        or KIT not in sys.modules
        or not call.excinfo.errisinstance((AssertionError, TypeError, ValueError))
    ):
        return (yield)
    places = [entry.frame.f_globals for entry in call.excinfo.traceback]
    if not _is_of_kit(places[-1]):
        return (yield)
    own = [place for place in places if _is_of_kit(place)]
    for place in own:
        place["__tracebackhide__"] = True
    try:
        report = yield
    finally:
        for place in own:
            place.pop("__tracebackhide__", None)
    report.user_properties.append((TITLE, str(call.excinfo.value)))  # pytest-xdist sends them to the process that prints
    return report


def _is_of_kit(module):
    return module.get("__name__", "").startswith(KIT)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of pytest-xdist prints nothing
        config.pluginmanager.register(_MessagesFirst(), f"{__name__}.messages")


class _MessagesFirst:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Let the report of a failed check begin with its message."""
        messages = [str(message) for title, message in report.user_properties if title == TITLE]
        if report.failed and messages:
            shown: Any = _After(messages[-1], report.longrepr)
            report.longrepr = shown


class _After:
    """What pytest shows of a failed test, after a message; all else is as before."""

    def __init__(self, message: str, shown: Any) -> None:
        self._message, self._shown = message, shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)

    def __str__(self) -> str:
        return f"{self._message}\n\n{self._shown}"

    def toterminal(self, terminal: Any) -> None:
        terminal.sep("-", TITLE)
        terminal.line(self._message)
        terminal.sep("-", "traceback")
        self._shown.toterminal(terminal)
