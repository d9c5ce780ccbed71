"""Small helpers without a home elsewhere."""
