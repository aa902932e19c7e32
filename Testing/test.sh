#!/bin/sh
# Run the checks and the tests, on all cores:  sh Testing/test.sh [checks | quick] [arguments of pytest]
# "checks" runs no tests but those of the layout; "quick" leaves out what is slow and what needs the stand-in for Slicer.
set -u
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$checkout/Testing/environment.sh"

mode=all only=
case ${1:-} in
checks | quick)
    mode=$1
    shift
    ;;
esac
[ $mode != quick ] || only="not slow and not gui"
make_environment test,faces,dicom,batch,cluster,pacs
cd "$checkout" || exit 1

failed=
check() { # name, arguments of Python
    name=$1
    shift
    "$python" -m "$@" || failed="$failed $name"
}
finish() {
    [ -n "$failed" ] || exit 0
    complain "Failed:$failed"
    exit 1
}
check style ruff check --quiet .
check format ruff format --quiet --check .
check types mypy
check spelling codespell_lib
check layout pytest --quiet Testing/test_layers.py Testing/test_cmake_lists.py
[ $mode != checks ] || finish

ensure_opengl
if [ $mode = all ]; then
    ensure "A system library of Qt" \
        "import importlib.util as u; u.find_spec('PySide6') and __import__('PySide6.QtWidgets')" \
        "libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon0"
    # What others read DICOM with. Orthanc's package starts a server, so they are installed only on machines that belong
    # to the tests; elsewhere the tests that need them are skipped.
    tools="dcm2niix dicom3tools orthanc orthanc-dicomweb orthanc-python dcmtk"
    for tool in dcm2niix dciodvfy Orthanc storescu; do
        command -v "$tool" >/dev/null && continue
        if [ "$(id -u)" != 0 ] || ! install "the DICOM tools" "$tools"; then
            complain "Tests with DICOM tools are skipped; on Debian or Ubuntu: sudo apt-get install $tools"
        fi
        break
    done
fi

# The trained models: about 3 GB of packages, so only where they are there, or are asked for with CTDEFACE_TORCH=1
models=${CTDEFACE_TORCH_PYTHON:-$checkout/.venv-models/bin/python}
if [ ! -x "$models" ] && [ "${CTDEFACE_TORCH:-}" = 1 ]; then
    make_models_environment || complain "The packages of the trained models could not be installed."
fi
if [ -x "$models" ]; then
    export CTDEFACE_TORCH_PYTHON="$models"
fi

# Each process of the tests has a processor: what libraries start of their own threads gets in the way of the others.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1
"$python" -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal --durations 15 -m "$only" "$@" ||
    failed="$failed tests"
if [ ! -x "$models" ]; then
    complain "Tests of trained models were skipped: PyTorch is not here. CTDEFACE_TORCH=1 installs it into .venv-models" \
        "(about 3 GB); CTDEFACE_TORCH_PYTHON=/path/to/python names one that has it, TotalSegmentator and pytest."
elif [ $mode = all ] && [ $# = 0 ]; then
    "$models" -m pytest Testing/test_nnunet.py Testing/test_totalsegmentator.py Testing/test_model_worker.py \
        Testing/test_mede.py || failed="$failed models"
fi
finish
