"""Arrays that remember where they came from: the recorded graph and the sweep back through it.

Nothing here knows of time or of modules.
"""
