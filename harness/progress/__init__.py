"""How a training goes on, and how long it will take."""
