"""Text in, batches of token ids out: sources, tokenization and the three LightningDataModules."""
