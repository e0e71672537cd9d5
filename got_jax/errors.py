"""The one exception that user mistakes raise; the command line prints it as one sentence and exits with 2."""


class GotError(Exception):
    """A problem the user can mend. The message names the thing, what is wrong with it and what to do."""


def require(condition: object, message: str) -> None:
    """Raises `GotError(message)` unless `condition` is true."""
    if not condition:
        raise GotError(message)
