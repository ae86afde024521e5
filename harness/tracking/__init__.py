"""What is kept of a run while it trains: metrics.csv, W&B, samples, token traces."""
