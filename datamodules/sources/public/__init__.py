"""Public preference sets: from the Hugging Face hub, or from a local copy."""
