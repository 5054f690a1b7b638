"""DataLoad resources by the hooks of Airflow's Kubernetes provider, and its errors as ours.

That provider is the extra ``fluid``: import this module when a task runs, and not when a DAG is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, cast

from airflow_preheat._fluid import GROUP, PLURAL, VERSION, FluidWait, api_error
from airflow_preheat.exceptions import PreheatRequestError

try:
    import aiohttp
    import kubernetes.client  # type: ignore[import-untyped]
    import kubernetes_asyncio.client
    import urllib3.exceptions
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook, KubernetesHook
except ImportError as error:
    raise PreheatRequestError(
        "FluidDataLoadOperator needs Airflow's Kubernetes provider: pip install 'airflow-provider-preheat[fluid]', on "
        "workers and on triggerers."
    ) from error

_REFUSALS = (kubernetes.client.ApiException, kubernetes_asyncio.client.ApiException)
_SILENCES = (urllib3.exceptions.HTTPError, aiohttp.ClientError, OSError)
_REQUEST_SECONDS = 30.0


class DataLoads:
    """DataLoads of one namespace.

    Args:
        kubernetes_conn_id: the Airflow connection of the cluster.
        namespace: by default the connection's, or else ``default``.
        in_cluster: use the account of the pod that this runs in; by default as the connection says.
        cluster_context: of the kubeconfig; by default as the connection says.
    """

    def __init__(
        self,
        kubernetes_conn_id: str,
        namespace: str | None,
        *,
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
    ) -> None:
        self._hook = KubernetesHook(conn_id=kubernetes_conn_id, in_cluster=in_cluster, cluster_context=cluster_context)
        self.namespace = namespace or self._hook.get_namespace() or "default"

    def create(self, body: dict[str, Any]) -> bool:
        """Create one; false if there is one of this name.

        Raises:
            PreheatRequestError: Kubernetes refuses it.
            PreheatUnavailableError: it does not answer.
        """
        with _errors(f"DataLoad {self.namespace}/{body['metadata']['name']}"):
            try:
                self._hook.create_custom_object(GROUP, VERSION, PLURAL, body, self.namespace)
            except kubernetes.client.ApiException as error:
                if error.status == HTTPStatus.CONFLICT:
                    return False
                raise
        return True

    def get(self, name: str) -> dict[str, Any]:
        """Return one.

        Raises:
            PreheatJobNotFoundError: there is none of this name.
        """
        with _errors(f"DataLoad {self.namespace}/{name}"):
            resource = self._hook.get_custom_object(GROUP, VERSION, PLURAL, name, self.namespace)
        return cast("dict[str, Any]", resource)

    def delete(self, name: str) -> None:
        """Delete one, and with it the pods that it runs.

        Raises:
            PreheatJobNotFoundError: there is none of this name.
        """
        with _errors(f"DataLoad {self.namespace}/{name}"):
            self._hook.delete_custom_object(GROUP, VERSION, PLURAL, name, self.namespace)


class AsyncDataLoads:
    """One DataLoad, from an event loop."""

    def __init__(self, wait: FluidWait) -> None:
        self._wait = wait
        self._hook = AsyncKubernetesHook(
            conn_id=wait.kubernetes_conn_id, in_cluster=wait.in_cluster, cluster_context=wait.cluster_context
        )

    async def get(self) -> dict[str, Any]:
        """Return it; raises as :meth:`DataLoads.get`."""
        return cast("dict[str, Any]", await self._ask("get_namespaced_custom_object"))

    async def delete(self) -> None:
        """Delete it; raises as :meth:`DataLoads.delete`."""
        await self._ask("delete_namespaced_custom_object")

    async def _ask(self, method: str) -> object:
        wait = self._wait
        with _errors(f"DataLoad {wait.namespace}/{wait.name}"):
            async with self._hook.get_conn() as client:
                api = kubernetes_asyncio.client.CustomObjectsApi(client)
                return await getattr(api, method)(
                    GROUP, VERSION, wait.namespace, PLURAL, wait.name, _request_timeout=_REQUEST_SECONDS
                )


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except _REFUSALS as error:
        raise api_error(error.status, str(error.reason), what) from error
    except (*_SILENCES, TimeoutError) as error:
        raise api_error(None, str(error), what) from error
