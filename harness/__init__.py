"""What surrounds a run: stages, tracking, checkpoints, exports, and what a person sees."""
