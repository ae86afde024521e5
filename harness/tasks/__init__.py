"""What a person can ask for: a file for each `task=`.

A task checks what it was given before it imports what takes seconds: torch, Lightning and
Transformers.
"""
