#!/usr/bin/env bash
# Makes .venv-alluxio: Alluxio's own Python clients, unmodified. An environment of its own, because they pin an old protobuf.
set -euo pipefail
exec {lock}<"$0" && flock "$lock" # two test processes may want it
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv) # make setup put one there if the machine had none

if [ scripts/alluxio-clients.sh -ot .venv-alluxio/.ready ]; then exit; fi
"$UV" venv --quiet --clear --python "$PYTHON" .venv-alluxio
"$UV" pip install --quiet --python .venv-alluxio/bin/python alluxio==1.0.0 alluxiofs==1.1.17
touch .venv-alluxio/.ready
echo "ready: .venv-alluxio"
