"""Rows: where they come from, how they are checked, normalised, stored and sampled."""
