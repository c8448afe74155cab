"""The matrix of experiments: pools that all methods share, runs that are a method on a pool, and their statistics."""
