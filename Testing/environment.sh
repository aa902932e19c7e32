# Sourced by demo.sh and test.sh, which set $checkout. Keeps a virtual environment in $checkout/.venv.

complain() { printf '%s\n' "$*" >&2; }

find_python() { # prints a Python from 3.10 on; $PYTHON goes first, then 3.12, which Slicer has, also where pyenv keeps it
    for candidate in "${PYTHON:-python3.12}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python \
        python3.13 python3.11 python3.10 python3 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
        [ -z "${PYTHON:-}" ] || break
    done
    complain "${PYTHON:-A Python} from 3.10 on with the modules venv and ensurepip is needed;" \
        "on Debian or Ubuntu: sudo apt-get install python3-venv. PYTHON=/path/to/python chooses one."
    return 1
}

make_environment() { # [extras]: sets $python, with this checkout and the extras installed
    base=$(find_python) || exit 1
    venv=$checkout/.venv
    version='import sys; print(sys.version)'
    for python in "$venv/bin/python" "$venv/Scripts/python.exe"; do
        [ ! -e "$python" ] || break
    done
    if [ "$("$python" -c "$version" 2>/dev/null)" != "$("$base" -c "$version")" ]; then
        rm -rf "$venv"
        "$base" -m venv "$venv" || exit 1
        [ ! -d "$venv/Scripts" ] || python=$venv/Scripts/python.exe
        [ ! -d "$venv/bin" ] || python=$venv/bin/python
    fi
    extras=${1:+"[$1]"}
    stamp=$venv/installed$extras
    if ! cmp -s "$checkout/pyproject.toml" "$stamp"; then
        complain "Installing what is needed into $venv ..."
        (cd "$checkout" && "$python" -m pip install --quiet --disable-pip-version-check --editable ".$extras") || exit 1
        cp "$checkout/pyproject.toml" "$stamp"
    fi
}

make_models_environment() { # $models: TotalSegmentator, nnU-Net and PyTorch in $checkout/.venv-models, for the processor
    base=$(find_python) || return 1
    complain "Installing PyTorch, nnU-Net and TotalSegmentator into $checkout/.venv-models ..."
    limit=$(command -v timeout) && limit="$limit 1800"
    "$base" -m venv "$checkout/.venv-models" &&
        (cd "$checkout" && $limit "$models" -m pip install --quiet --disable-pip-version-check \
            --editable ".[totalsegmentator]" pytest hypothesis) && return
    rm -rf "$checkout/.venv-models"
    return 1
}

install() { # name, Debian packages: installs these where that is allowed
    if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root=sudo; else return 1; fi
    command -v apt-get >/dev/null || return 1
    complain "Installing $1 ($2) ..."
    # shellcheck disable=SC2086
    { $as_root apt-get update && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y --no-install-recommends $2; } \
        >/dev/null
}

ensure() { # name, Python statement that fails without it, Debian packages
    "$python" -c "$2" >/dev/null 2>&1 && return
    install "$1" "$3" && "$python" -c "$2" >/dev/null 2>&1 && return
    complain "$1 is missing; on Debian or Ubuntu: sudo apt-get update && sudo apt-get install $3"
    exit 1
}

ensure_opengl() {
    ensure "OpenGL" "from CTDefaceLib.render import Renderer; Renderer()" "libosmesa6 libegl1 libgl1-mesa-dri"
}
