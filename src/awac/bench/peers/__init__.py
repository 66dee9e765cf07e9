"""One script an implementation; most run in another environment, so they import nothing of `awac` but each other."""
