"""The files that runs and studies write and reports read, as pydantic models."""
