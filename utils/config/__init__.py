"""Settings: command lines, YAML files, hyper-parameters."""
