"""What surrounds a training, from the command line to the files that it leaves."""
