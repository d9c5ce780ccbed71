"""Aggregators: from the rows of task gradients to one update."""
