"""Time and memory of all pairs of 1404 and of 10 000 embeddings through counting, SVM and cross-validation.

python Testing/benchmarks/bench_pairs.py
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "CTDeface"), str(ROOT / "CTDefaceEval")]

import numpy as np  # noqa: E402
from CTDefaceEvalLib import pairs  # noqa: E402
from peak_memory import peak_bytes  # noqa: E402


def main():
    from sklearn.svm import SVC  # noqa: F401  (its import is not what is timed)

    for number, patients in ((1404, 60), (10_000, 400)):
        rng = np.random.default_rng(0)
        patient = np.arange(number) % patients
        embeddings = (rng.standard_normal((patients, 512))[patient] + 2.0 * rng.standard_normal((number, 512))).astype(
            np.float32
        )
        start = time.perf_counter()
        counts = pairs.count_pairs(embeddings, patient, pairs.patient_folds(patient))
        by_patient = pairs.separate_by_patient(counts)
        at_random = pairs.separate_at_random(counts.sum(axis=(0, 1)))
        seconds = time.perf_counter() - start
        print(
            f"{number} embeddings, {counts.sum()} pairs: {seconds:.1f} s, peak {peak_bytes() / 2**20:.0f} MiB, "
            f"AUC {by_patient.auc[0]:.3f} by patient, {at_random.auc[0]:.3f} at random"
        )


if __name__ == "__main__":
    main()
