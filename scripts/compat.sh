#!/usr/bin/env bash
# Makes .venv-compat/VERSION for each Airflow given (3.1 3.2 by default), with the provider in it, editable.
# The versions are those of scripts/compat/VERSION.txt; `scripts/compat.sh --upgrade 3.1` resolves that file anew.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv)

upgrade=
if [ "${1:-}" = --upgrade ]; then upgrade=1; shift; fi
[ $# -gt 0 ] || set -- 3.1 3.2
for airflow in "$@"; do
  pins=scripts/compat/$airflow.txt
  venv=.venv-compat/$airflow
  wanted=("apache-airflow==$airflow.*" apache-airflow-providers-standard apache-airflow-providers-openlineage
    jsonschema pytest pytest-asyncio pytest-timeout)
  # Airflow 3.2 names no upper bounds; with later ones its execution API does not start.
  if [ "$airflow" = 3.2 ]; then wanted+=("fastapi<0.137" "cadwyn<7" "starlette<1"); fi
  if [ -n "$upgrade" ]; then
    printf '%s\n' "${wanted[@]}" | timeout 300 "$UV" pip compile - pyproject.toml --python-version 3.11 \
      --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --upgrade -o "$pins.new"
    grep -vE '^(-e|preheat|\./)|://' "$pins.new" > "$pins"
    rm "$pins.new"
  fi
  if [ "$venv/.ready" -nt "$pins" ] && [ "$venv/.ready" -nt pyproject.toml ]; then continue; fi
  "$UV" venv --quiet --clear --python "$PYTHON" "$venv"
  timeout 300 "$UV" pip install --quiet --python "$venv/bin/python" -c "$pins" -e . "${wanted[@]}"
  touch "$venv/.ready"
  echo "ready: $venv ($("$venv/bin/python" --version))"
done
