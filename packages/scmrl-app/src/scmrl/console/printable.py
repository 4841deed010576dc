"""Make text from files and command lines safe to print. Imports nothing."""


def printable(text: object, keep: str = "") -> str:
    """Escape non-printable characters: text from files must not move a terminal's cursor, nor color or hide text."""
    return "".join(char if char.isprintable() or char in keep else repr(char)[1:-1] for char in str(text))
