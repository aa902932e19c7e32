"""The command ``ctdeface``: a module for each sub-command."""
