"""The behaviours of the compatibility grid, with Django and Channels."""
