"""Many runs with one purpose: comparisons, baselines, tables of papers, measurements."""
