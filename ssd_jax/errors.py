"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Something given to the program is wrong; the message names it and says what to do.

    The scripts print the message alone, without a traceback.
    """
