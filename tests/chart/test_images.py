"""The images: their Dockerfiles are clean, and what the server's contains is what `docker/install.sh` installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.charts import CHART, ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(path for path in DOCKER.glob("*Dockerfile"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path):
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_the_dockerfile_copies_is_what_it_may_see():
    copied = {
        line.split()[1].rstrip("/")
        for line in (DOCKER / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
    }
    shown = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert copied == shown
    assert all((ROOT / path).exists() for path in copied)
    assert "RUN bash docker/install.sh /opt/preheat" in (DOCKER / "Dockerfile").read_text()


def test_the_image_and_the_chart_agree_on_user_and_version():
    security = yaml.safe_load((CHART / "values.yaml").read_text())["securityContext"]
    text = (DOCKER / "Dockerfile").read_text()
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in text
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert f"preheat:{version} " in text
    assert f'version = "{version}"' in (ROOT / "cache_cluster/pyproject.toml").read_text()


@pytest.mark.long
def test_the_installation_in_a_clean_folder_is_the_server_without_airflow(tmp_path: Path):
    """What the image is built from, copied as `COPY` does, on a path of its own and with an environment of its own."""
    source, target = tmp_path / "build", tmp_path / "opt" / "preheat"
    for name in ("constraints.txt", "docker/install.sh"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "cache_cluster", source / "cache_cluster", ignore=shutil.ignore_patterns("__pycache__"))
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "PATH", "HOME", "SSL_"))}
    argv = ["bash", source / "docker/install.sh", target]
    done = subprocess.run(argv, env=kept, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("preheat 0.1.0")
    installed = {path.name.partition("-")[0].lower() for path in target.rglob("*.dist-info")}
    assert {"preheat", "nats_py", "fastapi"} <= installed
    assert not {name for name in installed if "airflow" in name or name == "pip"}
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if line.count("==") == 1)
    versions = {path.name.removesuffix(".dist-info") for path in target.rglob("*.dist-info")}
    assert f"nats_py-{pinned['nats-py']}" in versions
    help_text = subprocess.run(
        [target / "bin/preheat", "worker", "--help"], capture_output=True, timeout=60, check=True
    )
    assert b"--data-dir" in help_text.stdout
