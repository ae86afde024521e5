"""What surrounds a run: its tasks, pipeline, checks, tracking, reports, comparisons and sweeps."""
