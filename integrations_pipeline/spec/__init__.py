"""Floor 0: what a connection is. Typed forms of the YAML, the small languages inside it, errors, limits, the clock."""
