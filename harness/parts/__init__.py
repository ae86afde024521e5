"""What a run is made of, from its config: choices, parts, the Trainer; nothing is trained here."""
