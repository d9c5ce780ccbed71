"""The commands, one module each: options, call, print."""
