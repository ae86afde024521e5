"""How good a policy or a reward is, apart from any training."""
