"""The only place where text becomes token ids: templates, tokenizers, encoding, limits, padding."""
