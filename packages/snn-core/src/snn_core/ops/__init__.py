"""One folder an operation: the entry point in `__init__.py`, the equations in `reference.py`, and faster paths."""
