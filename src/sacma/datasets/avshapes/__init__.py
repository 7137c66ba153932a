"""AV-Shapes, the embedded benchmark."""
