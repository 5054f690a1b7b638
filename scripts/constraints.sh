#!/usr/bin/env bash
# Resolves constraints.txt: every dependency of both distributions and of the tests, names and versions, no URL.
set -euo pipefail
cd "$(dirname "$0")/.."
UV=$(command -v uv || echo .uv/bin/uv)
"$UV" pip compile pyproject.toml cache_cluster/pyproject.toml --group pyproject.toml:dev --all-extras --universal \
  --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
  --upgrade -o constraints.txt.new
# The workspace's own distributions are no constraint of themselves.
grep -vE '^(-e|preheat|airflow-provider-preheat|\./)|://' constraints.txt.new > constraints.txt
rm constraints.txt.new
echo "constraints.txt: $(wc -l < constraints.txt) packages"
