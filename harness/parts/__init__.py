"""What a run is made of, from its config: choices, parts, the Trainer; no model is trained here."""
