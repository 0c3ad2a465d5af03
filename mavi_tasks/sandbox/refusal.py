"""The two errors of a request: an HTTP error status, or `errored` with HTTP 200."""


class Refusal(Exception):
    """The documented error envelope: `{"code": status, "msg": message, "data": null}`."""

    def __init__(self, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = headers or {}


class Errored(Exception):
    """A provider's error, returned as `"status": "errored"` with HTTP 200."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
