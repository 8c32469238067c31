"""The work of the entry scripts: checks, errors, exit codes, samples, tables and exports."""
