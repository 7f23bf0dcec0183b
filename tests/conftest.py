"""In CI, generated examples are the same every time: a verdict is of the change, not of luck."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
