"""Feedback of people and judges: what they are asked, what they said, and files made of it.

Nothing here imports torch.
"""
