"""Exports of a run: a checkpoint without its training state (`slim`), or its policy as one file (`policy_file`)."""
