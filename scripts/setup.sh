#!/usr/bin/env bash
# Makes .venv: uv from the package index if the machine has none, then both distributions, editable.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Preheat needs Python 3.11 or newer; $PYTHON is older. Set PYTHON=python3.12, say." >&2
  exit 1
}

find_uv() {
  if command -v uv >/dev/null; then echo uv; return; fi
  if [ ! -x .uv/bin/uv ]; then
    if ! "$PYTHON" -m venv .uv >/dev/null 2>&1; then
      rm -rf .uv # Debian's python3 has venv in a package of its own
      if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update && apt-get install -y --no-install-recommends python3-venv; } >&2
        "$PYTHON" -m venv .uv >&2
      else
        echo "Python has no venv module: run 'sudo apt-get install python3-venv', then make setup again." >&2
        exit 1
      fi
    fi
    .uv/bin/pip install --quiet uv >&2
  fi
  echo .uv/bin/uv
}

UV=$(find_uv)
# Kept if it is there: a rebuild would pull it from under whatever runs in it.
[ -x .venv/bin/python ] || "$UV" venv --quiet --clear --python "$PYTHON" .venv
"$UV" pip install --quiet --python .venv/bin/python -c constraints.txt \
  -e . -e './cache_cluster[server]' --group dev
echo "ready: .venv ($(.venv/bin/python --version), $(du -sh .venv | cut -f1))"
