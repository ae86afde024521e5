"""Models, rewards and algorithms: tensors in, losses out."""
