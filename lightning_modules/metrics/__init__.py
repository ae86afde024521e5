"""What is measured: means over ranks, intervals, preferences, held-out evaluation."""
