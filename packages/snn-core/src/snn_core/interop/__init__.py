"""Bridges to other libraries. Each module here needs an extra of its own, and nothing else imports it."""
