"""What a run writes: atomic files, the run folder, checkpoints, online rows and tables."""
