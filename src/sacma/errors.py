"""The one exception for mistakes that a user can mend: the command line prints it as one line, exit status 2."""


class SacmaError(Exception):
    """Bad input. The message names the file or value, says what was expected and what to do."""
