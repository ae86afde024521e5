"""What is computed otherwise on a CPU, since it is faster there."""
