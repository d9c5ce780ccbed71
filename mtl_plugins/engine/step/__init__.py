"""A step: what is measured, captured, reduced and stepped for one batch, whatever the strategy."""
