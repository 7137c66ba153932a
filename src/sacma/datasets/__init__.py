"""Data sets that this package makes: AV-Shapes, own clips, simulations."""
