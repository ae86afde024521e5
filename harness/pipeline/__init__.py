"""From parts to a trained model: stages, models, training, export."""
