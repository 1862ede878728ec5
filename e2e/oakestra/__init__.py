"""A test double of an Oakestra root with its clusters; double.py is the front door."""
