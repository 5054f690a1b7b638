"""The pods of a rendered chart as processes of this machine: their commands, environment, files, probes and hooks.

Each pod has a loopback address of its own in the place of a network namespace, and each Service one with a proxy to its
ready pods in the place of kube-proxy. Names of the cluster's DNS are replaced by these addresses, and the paths of
mounts by directories; everything else is taken from the manifests. Resources and security contexts are not applied.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preheat.cluster._nats import find_nats_server
from testbed.processes import ChildProcess

Manifest = Mapping[str, Any]
Secrets = Mapping[str, Mapping[str, str]]

_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_VARIABLE = re.compile(r"\$\((\w+)\)")


class Addresses:
    """Loopback addresses in the place of the names of the cluster's DNS.

    Args:
        namespace: of the release.
        network: the first three numbers, e.g. ``127.31.7``: other runs on this machine have others.
    """

    def __init__(self, namespace: str, network: str) -> None:
        self._suffix = f"{namespace}.svc.cluster.local"
        self._network = network
        self._known: dict[str, str] = {}

    @property
    def all(self) -> list[str]:
        """Every address that can be given."""
        return [f"{self._network}.{number}" for number in range(2, 40)]

    def of(self, name: str) -> str:
        """Return the address of ``service`` or ``pod.service``, the same each time."""
        return self._known.setdefault(f"{name}.{self._suffix}", self.all[len(self._known)])

    def translate(self, text: str) -> str:
        """Replace the names in a text."""
        for name in sorted(self._known, key=len, reverse=True):
            text = text.replace(name, self._known[name])
        return text


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the pods share: the objects of the manifest, and what is not in it."""

    objects: Sequence[Manifest]
    secrets: Secrets
    """Name → key → value of the Secrets that the manifest takes as given."""
    directory: Path
    """Holds the volumes; claims stay when a pod is replaced."""
    addresses: Addresses
    node_labels: Mapping[str, str] = field(default_factory=dict)

    def get(self, kind: str, name: str) -> Manifest:
        """Return an object of the manifest."""
        return next(item for item in self.objects if (item["kind"], item["metadata"]["name"]) == (kind, name))

    def files(self, volume: Manifest) -> dict[str, str]:
        """Return the files of a ConfigMap's or a Secret's volume."""
        if "configMap" in volume:
            return dict(self.get("ConfigMap", volume["configMap"]["name"])["data"])
        source = volume["secret"]
        content = self.secrets[source["secretName"]]
        items = source.get("items") or [{"key": key, "path": key} for key in content]
        return {item["path"]: content[item["key"]] for item in items}


class Pod:
    """One pod with one container; ``start`` after ``stop`` is its replacement on the same claims.

    Args:
        cluster: what it shares with others.
        name: its name, which stays with a StatefulSet's.
        spec: the pod's spec.
        labels: the pod's labels.
        address: where it listens.
        claims: names of its volumes that are claims.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        spec: Manifest,
        *,
        labels: Mapping[str, str],
        address: str,
        claims: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.address = address
        self.killed = False
        """Whether it outlived its grace time once."""
        self._cluster = cluster
        self._spec = spec
        self._labels = labels
        self._claims = claims
        (self._container,) = spec["containers"]
        self._process: ChildProcess | None = None

    @property
    def log(self) -> Path:
        """What it printed, all starts of it."""
        return self._cluster.directory / "logs" / f"{self.name}.log"

    def prepare(self) -> None:
        """Make its volumes."""
        self._mounts = {mount["mountPath"]: self._volume(mount["name"]) for mount in self._container["volumeMounts"]}
        self._fill()

    def start(self) -> None:
        """Make its volumes, and start its command."""
        self.prepare()
        command = self._command(self._container["command"])
        self._process = ChildProcess(command, log=self.log, env=self.environment(), name=self.name)

    def run(self, seconds: float) -> int:
        """Run a pod that ends, such as a test; return its exit status."""
        self.start()
        assert self._process is not None
        return self._process.wait(seconds)

    def ready(self) -> bool:
        """Ask the readiness probe once."""
        return self._probe(self._container["readinessProbe"])

    def live(self) -> bool:
        """Ask the liveness probe once."""
        return self._probe(self._container["livenessProbe"])

    def wait_ready(self) -> None:
        """Wait until the startup probe and the readiness probe succeed."""
        assert self._process is not None
        for probe in ("startupProbe", "readinessProbe"):
            self._process.wait_ready(lambda probe=probe: self._probe(self._container[probe]), timeout=_READY_SECONDS)

    def stop(self) -> None:
        """End it as a kubelet does: the preStop hook, SIGTERM, and SIGKILL after the grace time."""
        if self._process is None:
            return
        ends = time.monotonic() + self._spec.get("terminationGracePeriodSeconds", 30)
        hook = self._container.get("lifecycle", {}).get("preStop")
        if hook and self._process.running:
            self._hook(hook["exec"]["command"], ends)
        self._terminate(ends)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    def environment(self) -> dict[str, str]:
        """Return the container's variables as its process gets them."""
        found = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for variable in self._container["env"]:
            value = _VARIABLE.sub(lambda match: found.get(match[1], match[0]), self._value(variable))
            found[variable["name"]] = self._here(value)
        return found

    def _value(self, variable: Manifest) -> str:
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            return self._cluster.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        if "fieldRef" in source:
            return self._field(source["fieldRef"]["fieldPath"])
        return str(variable.get("value", ""))

    def _field(self, path: str) -> str:
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
        if label:
            return {**self._cluster.node_labels, **self._labels}.get(label[1], "")
        return {"metadata.name": self.name, "status.podIP": self.address}[path]

    def _here(self, text: str) -> str:
        """Put this machine's addresses and directories in the place of the pod's."""
        paths = "|".join(re.escape(path) for path in sorted(self._mounts, key=len, reverse=True))
        text = re.sub(rf"(?:{paths})(?=[/\"',\s]|$)", lambda match: str(self._mounts[match[0]]), text)
        return self._cluster.addresses.translate(text).replace("0.0.0.0", self.address)  # noqa: S104 - of the pod

    def _volume(self, name: str) -> Path:
        kind = "claims" if name in self._claims else "volumes"
        directory = self._cluster.directory / kind / self.name / name
        if kind == "volumes":
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _fill(self) -> None:
        for volume in self._spec.get("volumes", ()):
            path = next(
                Path(self._mounts[mount["mountPath"]])
                for mount in self._container["volumeMounts"]
                if mount["name"] == volume["name"]
            )
            if "emptyDir" in volume:
                continue
            for file, content in self._cluster.files(volume).items():
                (path / file).write_text(self._here(content))
                (path / file).chmod(0o600)

    def _command(self, command: Sequence[str]) -> list[str]:
        program, *arguments = command
        programs = {"preheat": str(Path(sys.executable).parent / "preheat"), "nats-server": str(find_nats_server())}
        return [programs.get(program, program), *(self._here(argument) for argument in arguments)]

    def _hook(self, command: Sequence[str], ends: float) -> None:
        with self.log.open("ab") as log:
            subprocess.run(
                self._command(command),
                env={**os.environ, **self.environment()},
                stdout=log,
                stderr=log,
                timeout=max(1.0, ends - time.monotonic()),
                check=False,
            )

    def _terminate(self, ends: float) -> None:
        process = self._process
        assert process is not None
        process.terminate()
        try:
            process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.killed = True
            process.kill()

    def _probe(self, probe: Manifest) -> bool:
        get = probe["httpGet"]
        port = next(port["containerPort"] for port in self._container["ports"] if port["name"] == get["port"])
        url = f"{get.get('scheme', 'HTTP').lower()}://{self.address}:{port}{get['path']}"
        context = ssl.create_default_context()  # a kubelet does not look at the certificate either
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1), context=context) as answer:
                return bool(answer.status < 400)
        except (OSError, urllib.error.HTTPError):
            return False


def stateful_pods(cluster: Cluster, name: str) -> list[Pod]:
    """Return the pods of a StatefulSet, with their claims."""
    owner = cluster.get("StatefulSet", name)["spec"]
    claims = [claim["metadata"]["name"] for claim in owner.get("volumeClaimTemplates", ())]
    return [
        Pod(
            cluster,
            f"{name}-{number}",
            owner["template"]["spec"],
            labels=owner["template"]["metadata"]["labels"],
            address=cluster.addresses.of(f"{name}-{number}.{owner['serviceName']}"),
            claims=claims,
        )
        for number in range(owner["replicas"])
    ]


def deployment_pods(cluster: Cluster, name: str) -> Iterator[Pod]:
    """Yield pods of a Deployment, each with a name of its own, without end."""
    template = cluster.get("Deployment", name)["spec"]["template"]
    number = 0
    while True:
        number += 1
        yield Pod(
            cluster,
            f"{name}-{number}",
            template["spec"],
            labels=template["metadata"]["labels"],
            address=cluster.addresses.of(f"{name}-{number}"),
        )
