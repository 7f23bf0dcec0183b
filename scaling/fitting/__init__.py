"""Fits: starting points, damped Newton, priors, and the best fit on each of many folds."""
