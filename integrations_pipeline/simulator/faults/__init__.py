"""What a source does wrong, when told to. `spec/faults.py` has the vocabulary, `registry` says what each entry does."""
