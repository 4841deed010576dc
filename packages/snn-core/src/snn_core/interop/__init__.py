"""Conversions to and from other libraries. Each module needs its own extra, and nothing else imports it."""
