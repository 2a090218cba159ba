"""How fast a machine is at what this project does."""
