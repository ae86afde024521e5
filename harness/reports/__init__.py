"""What a person reads: the terminal, and the report on a reward model."""
