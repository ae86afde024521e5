"""Pairs of responses compared by a judge, in both orders: labels, win rates, and a report on it."""
