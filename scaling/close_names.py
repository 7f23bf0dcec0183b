"""`did you mean`: known names close to one that is not known."""

import difflib
from collections.abc import Iterable

_MOST = 3


def close_names(name: str, known: Iterable[str]) -> str:
    """`; did you mean m2-max or m1-max?`, or nothing where no known name is close."""
    names = list(known)
    lower = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.strip().lower(), list(lower), n=_MOST)
    if not close:
        # A part of a name, as people remember them: `iphone`, `smollm`.
        close = sorted(each for each in lower if len(name) >= 3 and name.lower() in each)[:_MOST]
    found = [lower[each] for each in close]
    if not found:
        return ""
    words = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}"
    return f"; did you mean {words}?"
