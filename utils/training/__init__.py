"""Training: options, optimiser, session, log and report of a run."""
