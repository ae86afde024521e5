"""Pure tensor mathematics: torch and nothing else, no state, no logging.

Shapes: B sequences, T response tokens. `mask` (B, T) is the response mask, True on every sampled
token up to and including the stop token; a row's True slots come first and without gaps.
"""
