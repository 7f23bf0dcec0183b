"""One trunk trained: model, step, schedule, population, checkpoints, evaluation."""
