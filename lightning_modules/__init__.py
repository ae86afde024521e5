"""What Lightning trains, and the mathematics, models, rollouts, rewards and metrics below it."""
