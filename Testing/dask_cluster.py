"""A Dask cluster on this machine, each of its workers in a process of its own with a nanny."""

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
    protocol, workers = sys.argv[1], int(sys.argv[2])
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, protocol=protocol)
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def dask_cluster(
    folder: Path, environment: dict[str, str], protocol: str = "tcp://", workers: int = 2
) -> Iterator[tuple[str, subprocess.Popen]]:
    """Its address, and the process that started it."""
    script = folder / "cluster.py"
    script.write_text(SCRIPT)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, str(script), protocol, str(workers)], env=environment, **pipes) as process:
        yield process.stdout.readline().strip(), process
        process.stdin.close()
