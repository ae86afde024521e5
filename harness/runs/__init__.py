"""What lies on the disk: folders of runs, made, found again and resumed; stages; checkpoints."""
