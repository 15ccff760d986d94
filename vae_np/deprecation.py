"""Old names, which go on working for one version."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def now_called(old: str, new: str) -> str:
    """The sentence of every warning about an old name."""
    return f"{old} is now called {new}; the old name goes with vae_np 0.3"


def renamed(**names: str) -> Callable[[F], F]:
    """A decorator: the function also takes each old keyword, renamed(old="new"), with a DeprecationWarning."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def with_old_names(*arguments: Any, **keywords: Any) -> Any:
            for old in names.keys() & keywords.keys():
                new = names[old]
                if new in keywords:
                    raise TypeError(f"{function.__name__} got both {new} and {old}, which is the old name of {new}")
                warnings.warn(now_called(old, new), DeprecationWarning, stacklevel=2)
                keywords[new] = keywords.pop(old)
            return function(*arguments, **keywords)

        return cast(F, with_old_names)

    return decorate
