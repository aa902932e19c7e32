#!/bin/sh
# Run the checks:  sh Testing/test.sh [arguments of pytest]
set -u
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$checkout/Testing/environment.sh"

make_environment test,faces,dicom
ensure_opengl
ensure "A system library of Qt" "import importlib.util as u; u.find_spec('PySide6') and __import__('PySide6.QtWidgets')" \
    "libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon0"
cd "$checkout" || exit 1
"$python" -m pytest "$@"
status=$?
"$python" -m ruff check --quiet . || status=1
exit "$status"
