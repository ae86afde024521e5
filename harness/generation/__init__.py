"""Policies that answer prompts of any source: all of them at once, or one token after another."""
