"""One folder per operation: the entry point in `__init__.py`, equations in `reference.py`, implementations beside."""
