"""SIGTERM, SIGINT and SIGHUP during training: recorded at once, acted on at consistent points."""

from __future__ import annotations

import signal
import threading

from awac.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class GracefulStop:
    """Inside the context, a first signal makes the next `check` raise; a second one ends the process as usual.

    A signal that the caller ignores (nohup) stays ignored. Outside the main thread it does nothing.
    """

    def __init__(self):
        self.received: int | None = None
        self._former: dict[int, object] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._former = {}

    def check(self) -> None:
        """Raises if a signal came.

        Raises:
            Interrupted: names it.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    def _note(self, number, _frame) -> None:
        self.received = number
        self.__exit__()
