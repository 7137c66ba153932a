"""Class names, and their vectors."""
