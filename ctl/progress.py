"""A bar on standard error, where that is a terminal; gone at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """`total` of `unit`, or 0 where nobody knows how many there will be."""

    def __init__(self, total: int, unit: str = "req", what: str = "") -> None:
        self._show: Callable[[int], object] = int
        self._close: Callable[[], object] = int
        if sys.stderr.isatty():
            from tqdm import tqdm

            bar = tqdm(
                desc=what or None, total=total or None, unit=unit, unit_scale=unit == "B", file=sys.stderr,
                dynamic_ncols=True, leave=False,
            )  # fmt: skip
            self._show = lambda done: bar.update(done - bar.n)
            self._close = bar.close

    def show(self, done: int) -> None:
        self._show(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
