"""Models: where they come from, and what they say of tokens; one idea a file."""
