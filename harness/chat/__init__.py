"""Talking to a policy: in a terminal, and with votes on what one sees."""
