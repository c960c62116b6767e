"""`facegan ablate`: what each part of a method adds, as one command: rows of flags, run one by one, rated by the judge."""
