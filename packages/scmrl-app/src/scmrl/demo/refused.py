"""What a person is told when something is not done."""


class RefusedError(Exception):
    """Something that is not done, for a reason that is shown in the page.

    Args:
        reason: what is wrong, and what to do.
        status: of HTTP, 4xx where it is about what was sent, 503 where the server cannot now.
    """

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status
