#!/usr/bin/env bash
# Makes .venv-ecosystems: libraries that read and write through fsspec, and preheat as they install it, without [server].
# An environment of its own, because they are large, and pin what Airflow pins otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv) # make setup put one there if the machine had none

if [ scripts/ecosystems.sh -ot .venv-ecosystems/.ready ]; then exit; fi
"$UV" venv --quiet --clear --python "$PYTHON" .venv-ecosystems
"$UV" pip install --quiet --python .venv-ecosystems/bin/python --editable cache_cluster \
  datasets==5.2.0 duckdb==2.0.0 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1 webdataset==1.0.2 zarr==3.1.6

# The CPU build of torch: the one that pip is told to find on this machine, or else that of torch's own index.
if [ -n "${PIP_FIND_LINKS:-}" ]; then
  TORCH=(--find-links "$PIP_FIND_LINKS")
else
  TORCH=(--torch-backend cpu)
fi
"$UV" pip install --quiet --python .venv-ecosystems/bin/python "${TORCH[@]}" torch==2.13.0 ||
  echo "The CPU build of torch cannot be had here: what needs it is skipped." >&2
touch .venv-ecosystems/.ready
echo "ready: .venv-ecosystems"
