"""The work queue of a study, its storage, and its workers."""
