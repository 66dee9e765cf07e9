"""Tasks × presets × seeds from one YAML file, trained side by side through Ray: the command `awac sweep`."""
