"""What surrounds a training, from the command line to the files that it leaves."""

from harness.resolvers import register

register()  # before any config is composed or read, in whatever process
