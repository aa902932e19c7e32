#!/bin/sh
# Run the checks:  sh Testing/test.sh [arguments of pytest]
set -u
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$checkout/Testing/environment.sh"

make_environment test,faces,dicom,batch,cluster
ensure_opengl
ensure "A system library of Qt" "import importlib.util as u; u.find_spec('PySide6') and __import__('PySide6.QtWidgets')" \
    "libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon0"
cd "$checkout" || exit 1

# What others read DICOM with. Orthanc's package starts a server, so they are installed only on machines that belong to
# the tests; elsewhere the tests that need them are skipped.
tools="dcm2niix dicom3tools orthanc dcmtk"
for tool in dcm2niix dciodvfy Orthanc storescu; do
    command -v "$tool" >/dev/null && continue
    if [ "$(id -u)" != 0 ] || ! install "the DICOM tools" "$tools"; then
        complain "Tests with DICOM tools are skipped; on Debian or Ubuntu: sudo apt-get install $tools"
    fi
    break
done

# The trained models: about 3 GB of packages, so only where they are there, or are asked for with CTDEFACE_TORCH=1
models=${CTDEFACE_TORCH_PYTHON:-$checkout/.venv-models/bin/python}
if [ ! -x "$models" ] && [ "${CTDEFACE_TORCH:-}" = 1 ]; then
    make_models_environment || complain "The packages of the trained models could not be installed."
fi
if [ -x "$models" ]; then
    export CTDEFACE_TORCH_PYTHON="$models"
fi

"$python" -m pytest "$@"
status=$?
if [ ! -x "$models" ]; then
    complain "Tests of trained models were skipped: PyTorch is not here. CTDEFACE_TORCH=1 installs it into .venv-models" \
        "(about 3 GB); CTDEFACE_TORCH_PYTHON=/path/to/python names one that has it, TotalSegmentator and pytest."
elif [ $# = 0 ]; then
    "$models" -m pytest Testing/test_nnunet.py Testing/test_totalsegmentator.py Testing/test_model_worker.py || status=1
fi
"$python" -m ruff check --quiet . || status=1
exit "$status"
