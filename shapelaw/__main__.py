"""`python -m shapelaw`: the command line, deaf to modules in the current folder."""

import os
import sys

# `-m` puts the current folder first on the path: a user's own `jax.py` or `results.py` there must
# neither be imported nor run.
_HERE = os.getcwd()
sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != _HERE]

from shapelaw.cli import main  # noqa: E402

main()
