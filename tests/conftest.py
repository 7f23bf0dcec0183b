"""What every test shares.

In CI, generated examples are the same every time: a verdict is of the change, not of luck. Linear
algebra takes one thread, as under the command line: the same digits on any number of cores.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
