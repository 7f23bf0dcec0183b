"""The sharing study: from its committed records to every figure and number of its README."""
