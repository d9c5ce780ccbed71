"""A sample's fields: how they are read, and which of their pixels are valid."""
