"""``python -m CTDefaceLib`` is the command ``ctdeface``, also in Slicer: ``PythonSlicer -m CTDefaceLib``."""

import sys

from .commands.main import main

if __name__ == "__main__":
    sys.exit(main())
