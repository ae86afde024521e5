"""The options that a user may set, and their rules. Nothing here imports torch: a wrong value is
refused in a second.
"""
