"""What commands print: progress, tables and errors."""
