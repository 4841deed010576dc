"""The error that becomes a message on the page."""


class RefusedError(Exception):
    """A request that is refused, with a reason for the user.

    Args:
        reason: what is wrong, and what to do.
        status: HTTP status: 4xx for errors in the request, 503 if the server is busy or stopping.
    """

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status
