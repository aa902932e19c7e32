#!/bin/sh
# Deface a synthetic head, or the CT given, and show it before and after:  sh Testing/demo.sh [CT]
# CT is a NIfTI, NRRD or MetaImage file or a folder with one DICOM series. The results go to ctdeface-demo in the checkout.
set -u
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$checkout/Testing/environment.sh"

case ${1:-} in -*)
    sed -n '2,3s/^# //p' "$0"
    exit 2
    ;;
esac
make_environment
ensure_opengl
exec "$python" -m CTDefaceLib demo "$checkout/ctdeface-demo" ${1:+--ct "$1"}
