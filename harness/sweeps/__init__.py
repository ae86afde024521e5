"""Sweeps: a sweep as a whole, and each of its jobs."""
