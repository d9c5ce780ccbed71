"""The parts of ``doctor``: what it looks at, how it measures, and how it explains errors."""
