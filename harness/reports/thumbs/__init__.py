"""A reward judged by thumbs on single responses."""
