"""Negative controls: each takes one protection away and shows that the check for it goes red, and stays silent with the protection."""
