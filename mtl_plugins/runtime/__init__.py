"""What keeps a run alive: checkpoints, resuming, signals, random states, ranks, the work folder. It knows no method."""
