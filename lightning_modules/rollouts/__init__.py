"""Rollouts: sampling answers, and the record of them that an update works on."""
