"""Many runs: tables of the paper, searches, random class splits."""
