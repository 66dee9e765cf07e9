"""Speed: this package's learner against other code bases on the same training step, each in a process of its own.

`run` alternates short measurements over the processes of `peers/`; `growth` and `parts` measure this package alone.
"""
