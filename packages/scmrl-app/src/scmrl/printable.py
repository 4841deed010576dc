"""Text from files and command lines made safe to show. Imports nothing."""


def printable(text: object) -> str:
    """A name or message on one line: what files say must not move a terminal's cursor, nor color or hide text."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))
