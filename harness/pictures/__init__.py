"""Pictures of runs, tokens and reward models, each drawn from numbers; matplotlib comes late."""
