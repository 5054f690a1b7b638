"""The coordinator's API for tasks."""

from __future__ import annotations

import time
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.common.compat.sdk import BaseHook

from airflow_preheat import _client, _datasets
from airflow_preheat._dialects import Dialect, Talk, choose
from airflow_preheat._endpoint import DEFAULT_CONN_ID, Endpoint
from airflow_preheat._looks import Finding, Look, Warmth, ask_warmth
from airflow_preheat._watch import JobEvent, JobWatch
from airflow_preheat.exceptions import PreheatError, PreheatUnavailableError
from airflow_preheat.jobs import Claim, Job, JobOptions, JobSpec, progress

if TYPE_CHECKING:
    import requests

T = TypeVar("T")


class PreheatHook(BaseHook):
    """Speaks to a Preheat coordinator, or to that of an Alluxio in its own dialect.

    A request that can be repeated safely is tried again for a few seconds if the coordinator cannot be
    reached or answers 429, 502, 503 or 504. Proxies and ``.netrc`` of the environment are not used: the
    coordinator is an internal service, and its token comes from the connection only.

    Args:
        preheat_conn_id: the Airflow connection of the coordinator.
    """

    conn_name_attr = "preheat_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "preheat"
    hook_name = "Preheat"

    def __init__(self, preheat_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.preheat_conn_id = preheat_conn_id

    @cached_property
    def endpoint(self) -> Endpoint:
        """The coordinator's address, read from the Airflow connection once."""
        return Endpoint.from_connection(self.get_connection(self.preheat_conn_id))

    @cached_property
    def dialect(self) -> Dialect:
        """How the coordinator wants to be spoken to: as the connection says, or found out once.

        Raises:
            PreheatRequestError: what answers is neither Preheat nor Alluxio.
            PreheatUnavailableError: nothing answers.
        """
        return self._talk(choose(self.endpoint))

    def get_conn(self) -> requests.Session:
        """Return an HTTP session with the connection's TLS settings; close it after use.

        One for each request, so that ``on_kill`` may send from a signal handler while a poll is under way.
        """
        import requests  # noqa: PLC0415 - DAG files import hooks, and send nothing

        session = requests.Session()
        session.trust_env = False
        session.verify = (self.endpoint.ca_cert or True) if self.endpoint.verify_tls else False
        return session

    def submit(self, spec: JobSpec, idempotency_key: str | None = None, claim: Claim | None = None) -> Job:
        """Submit a job, or attach to the one with the same type and paths that runs.

        Args:
            spec: what to do.
            idempotency_key: submits with one key make one job; only a submit with a key is tried again. An
                Alluxio needs none: there is one load job for a path.
            claim: who waits for the job from its first moment on; its ``job_id`` is not known yet.

        Raises:
            PreheatRequestError: the coordinator refused it, e.g. because there is no such bucket.
            PreheatUnavailableError: no worker is live, or the under store or the coordinator does not answer.
        """
        return self._talk(self.dialect.submit(spec, idempotency_key, claim))

    def get_job(self, job_id: str, *, wait: float = 0.0, after: int | None = None, first: int | None = None) -> Job:
        """Return a job.

        Args:
            job_id: the job.
            wait: seconds to wait for its end, at most 60; an Alluxio answers at once.
            after: answer earlier, as soon as the job's revision is greater than this.
            first: answer earlier, as soon as so many files are hot, from the start of the job's order on, or it is
                certain that they will not be.

        Raises:
            PreheatJobNotFoundError: the coordinator does not know it.
            PreheatUnavailableError: the coordinator does not answer.
        """
        return self._talk(self.dialect.get_job(job_id, wait=wait, after=after, first=first))

    def receipt(self, job_id: str) -> str | None:
        """Return what a verified job has proven, signed by the coordinator (a compact JWS); raises as :meth:`get_job`.

        ``None`` of a job that has not succeeded or was not to verify, and of a coordinator that signs none, as an
        Alluxio's. How to check one: ``docs/explanation/receipt.md``.
        """
        return self.get_job(job_id).get("receipt")

    def wait_for_job(self, watch: JobWatch) -> JobEvent:
        """Claim a job; wait until it has ended, the deadline has passed or the coordinator is away for too long."""
        while (wait := watch.next_poll(asked_at := time.time())) is not None:
            if (event := self.look_at_job(watch, wait=wait)) is not None:
                return event
            time.sleep(watch.pause(asked_at, time.time()))
        return watch.expired()

    def look_at_job(self, watch: JobWatch, *, wait: float | None = None) -> JobEvent | None:
        """Return how a wait has ended, if it has, after up to ``wait`` seconds; without it at once, and quietly."""
        if watch.next_poll(time.time()) is None:
            return watch.expired()
        try:
            job = self._look(watch, wait or 0.0)
            event = watch.seen(job, long_poll=self.dialect.long_poll)
        except PreheatError as error:
            return watch.missed(error, time.time())
        if wait is not None:
            self.log.info("Preheat job %s is %s", job["id"], progress(job))
        if warning := watch.warning(job):
            self.log.warning(warning)
        return event

    def claim(self, claim: Claim) -> Job:
        """Wait for a job from now on, in the place of the waiter's earlier process, and return the job."""
        return self._talk(self.dialect.claim(claim))

    def renew(self, claim: Claim) -> Job:
        """Let a claim's lease begin anew, and return the job; one that is not the waiter's last changes nothing."""
        return self._talk(self.dialect.renew(claim))

    def cancel(self, claim: Claim) -> Job:
        """Wait for a job no longer, and return it.

        The coordinator stops it after a grace time, unless another waiter is left, or a new process of this
        waiter claims it. A claim that is not the waiter's last changes nothing. An Alluxio knows no waiters: it
        stops the job.
        """
        return self._talk(self.dialect.cancel(claim))

    def stop(self, job_id: str) -> Job:
        """Stop a job, whoever waits for it, and return it; batches that have begun are finished first."""
        return self._talk(self.dialect.stop(job_id))

    def list_jobs(self, *, state: str | None = None, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
        """Return ``{"jobs": [...], "next": cursor or None}``, the newest job first."""
        return self._send(_client.list_jobs(state=state, limit=limit, cursor=cursor))

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers with their capacity, use and whether they are live."""
        return cast("list[dict[str, Any]]", self._send(_client.list_workers())["workers"])

    def warmth(self, path: str, *, version: str | None = None) -> Warmth:
        """Return how much of a dataset the workers say is hot now.

        Args:
            path: the dataset, or a part of one.
            version: of which dataset version; by default of the pinned one, or else of the last load's.

        Raises:
            PreheatVersionUnknownError: the coordinator does not know this version, or not yet.
            PreheatRequestError: it refused the path; or it is an Alluxio, which cannot say it.
            PreheatUnavailableError: it does not answer.
        """
        return self._talk(ask_warmth(self.endpoint, self.dialect, path, version))

    def look(self, look: Look, *, wait: float = 0.0) -> Finding:
        """Return how what a sensor waits for stands, after up to ``wait`` seconds if the coordinator can wait for it.

        Raises:
            PreheatError: it cannot come true any more, or the coordinator does not say it.
        """
        return self._talk(look.talk(self.endpoint, self.dialect, wait))

    def estimate(self, path: str, options: JobOptions | None = None) -> _datasets.Estimate:
        """Return what a load of a path would take: objects, bytes, whether they fit. May list for minutes.

        Args:
            path: what would be loaded; nothing is.
            options: those of the load, by their names in the API.

        Raises:
            PreheatRequestError: the coordinator refused it, or is an Alluxio.
        """
        spec = JobSpec(type="load", paths=[path], options=options or {})
        return self._talk(_datasets.estimate(self.endpoint, self.dialect, spec))

    def drift(self, path: str) -> _datasets.Drift:
        """Return how a dataset differs at the under store from what is pinned or was listed last. May list for minutes.

        Raises:
            PreheatVersionUnknownError: no load that is known has listed it.
        """
        return self._talk(_datasets.drift(self.endpoint, self.dialect, path))

    def pin(self, path: str, version: str | None = None) -> _datasets.Pin:
        """Bind a path to a dataset version that a load has listed, the last one by default, and return the pin.

        Raises:
            PreheatError: no inventory of this version is kept.
        """
        return self._talk(_datasets.pin(self.endpoint, self.dialect, path, version))

    def unpin(self, pin_id: str) -> None:
        """Let go of a pin; what is cached stays."""
        self._talk(_datasets.unpin(self.endpoint, self.dialect, pin_id))

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the coordinator answers and has a live worker, and a sentence about it."""
        try:
            if self.dialect.name == "preheat":
                return self._test_workers()
            passed = self._talk(self.dialect.check())
        except PreheatError as error:
            return False, str(error)
        answer = "An Alluxio" if passed else "No Alluxio"
        return passed, f"{answer} coordinator answers at {self.endpoint.url} in the dialect {self.dialect.name}."

    def _test_workers(self) -> tuple[bool, str]:
        workers = self.workers()
        live = sum(bool(worker["live"]) for worker in workers)
        remedy = "" if live else " Start one with `preheat worker`."
        return (
            live > 0,
            f"The coordinator at {self.endpoint.url} has {live} live of {len(workers)} workers.{remedy}",
        )

    def _look(self, watch: JobWatch, wait: float) -> Job:
        now = time.time()
        if not watch.claimed or watch.must_renew(now):
            job = self.renew(watch.claim) if watch.claimed else self.claim(watch.claim)
            watch.held(now)
            return job
        return self.get_job(watch.claim.job_id, wait=wait, after=_client.UNTIL_ENDED, first=watch.wait.first)

    def _talk(self, talk: Talk[T]) -> T:
        """Send what a dialect asks for until it has its answer."""
        try:
            call = next(talk)
            while True:
                call = talk.send(self._deliver(call))
        except StopIteration as end:
            return cast("T", end.value)

    def _send(self, call: _client.Call) -> dict[str, Any]:
        """Send a request of the native API."""
        return _client.decode(self.endpoint, call, self._deliver(call))

    def _deliver(self, call: _client.Call) -> _client.Reply:
        for attempt in count():
            try:
                return _client.available(self.endpoint, call, self._exchange(call))
            except PreheatUnavailableError as error:
                delay = _client.retry_delay(call, attempt)
                if delay is None:
                    raise
                self.log.warning("%s Trying again in %s s.", error, delay)
            time.sleep(delay)
        raise AssertionError("count() has no end")

    def _exchange(self, call: _client.Call) -> _client.Reply:
        endpoint = self.endpoint
        try:
            with self.get_conn() as session:
                response = session.request(
                    call.method,
                    f"{endpoint.url}{call.path}",
                    params=call.query,
                    json=call.body,
                    headers=_client.headers(endpoint, call),
                    timeout=(endpoint.connect_timeout, endpoint.request_timeout + call.wait),
                    allow_redirects=False,
                )
        except OSError as error:  # requests' own errors, and a CA certificate that cannot be read
            raise _client.unreachable(endpoint, error) from _client.shown(endpoint, error)
        return _client.Reply(status=response.status_code, reason=response.reason, body=response.content)
