"""Rollouts: sampling responses, and the record of them that an update works on."""
