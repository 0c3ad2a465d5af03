"""Why a run sends nothing more, once it does: shared by all that would go on."""

from collections.abc import Callable


class StopSignal:
    """Set once; the first reason stands.

    reason: a code such as budget, unauthorized, no_balance, interrupted, storage; None = the run goes on.
    error: a defect of ours that stopped the run, to be raised when what is in flight has been recorded.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.message: str | None = None
        self.error: BaseException | None = None
        self._callbacks: list[Callable[[str], None]] = []

    def __call__(self, reason: str, message: str) -> None:
        """Send nothing more; what is in flight is waited for."""
        if self.reason is None:
            self.reason, self.message = reason, message
            for callback in self._callbacks:
                callback(message)

    def on_stop(self, callback: Callable[[str], None]) -> None:
        """Call this with the message when the run stops, or at once when it has stopped.

        A callback that is already known is not called a second time.
        """
        if callback in self._callbacks:
            return
        self._callbacks.append(callback)
        if self.reason is not None:
            callback(self.message or self.reason)
