#!/usr/bin/env bash
# Installs preheat[server] into a virtual environment at $1, as the image has it: what constraints.txt pins, no pip, no Airflow.
# The tests run it in a clean folder, for Docker runs on no development machine.
set -euo pipefail
target=${1:?"usage: install.sh DIRECTORY"}
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

"$PYTHON" -m venv --without-pip "$target"
"$PYTHON" -m pip --python "$target/bin/python" install --quiet --no-cache-dir --disable-pip-version-check \
  --constraint constraints.txt "./cache_cluster[server]"
"$target/bin/preheat" --version
"$target/bin/nats-server" --version
if "$target/bin/python" -c 'import airflow' 2>/dev/null; then
  echo "Airflow is not to be in this image." >&2
  exit 1
fi
