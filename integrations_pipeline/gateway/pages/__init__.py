"""Pages for people: how each connection stands, what waits for a decision, and the few forms that decide it."""
