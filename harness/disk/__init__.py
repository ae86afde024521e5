"""How files are written, whole or not at all; locks; what a finished folder holds."""
