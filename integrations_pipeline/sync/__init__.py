"""Floor 2: the verbs. Each takes a connection's stream, a client and the store, and keeps the delivery promise."""
