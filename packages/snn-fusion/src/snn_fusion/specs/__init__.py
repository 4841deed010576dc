"""Everything about a model that can be configured, as typed, frozen data.

Specs are plain pydantic models. They validate before any tensor exists, round-trip through JSON, and `build()` modules,
which know nothing of specs. Nothing here imports PyTorch, so reading, checking and printing a spec is fast. Plug-ins
add specs to the registries.
"""
