"""A Dask cluster of two workers on this machine, each in a process of its own with a nanny."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SCRIPT = """
import sys
if __name__ == "__main__":
    from distributed import LocalCluster
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, protocol=sys.argv[1])
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def dask_cluster(
    folder: Path, environment: dict[str, str], protocol: str = "tcp://"
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Its address, and the process that started it."""
    script = folder / "cluster.py"
    script.write_text(SCRIPT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script), protocol], env=environment, **pipes) as process:
        yield process.stdout.readline().strip(), process
        process.stdin.close()
