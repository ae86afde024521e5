"""How language models are run: their passes, and what is read from them."""
