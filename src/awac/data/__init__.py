"""Data: from files or collected episodes to `Transitions`, and from there to the replay memory."""
