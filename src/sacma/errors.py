"""The one exception for mistakes that a user can mend: one line on the command line, exit status 2."""


class SacmaError(Exception):
    """Bad input. The message names the file or value, says what was expected and what to do."""


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())
