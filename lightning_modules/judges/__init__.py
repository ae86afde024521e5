"""Language models that judge: behind an endpoint, or in this process."""
