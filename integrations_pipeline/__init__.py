"""Connect outside systems without losing a row: one YAML file per connection, everything else follows from it."""

__version__ = "0.1.0"
