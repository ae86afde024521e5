"""Feedback: answers to be judged, and what people and judges say of them. No torch."""
