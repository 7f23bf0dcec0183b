"""The user's home folder, where it is known."""

import os
from pathlib import Path

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown


def home_folder(instead: str) -> Path:
    """The user's home folder, for what is kept from one command to the next.

    Args:
        instead: the variable that names the wanted folder itself, for the message.

    Raises:
        BadInput: it is not known: in a container whose user has no name, or with HOME=~.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise BadInput(
            f"HOME = {shown(os.environ.get('HOME', ''))}: it is no folder, and this user has none; "
            f"set HOME or {instead} to one"
        ) from None
