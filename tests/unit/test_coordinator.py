"""The job service from submit to verdict: real coordinator, real executors, on the in-memory twins."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from preheat.coordinator import Claim
from preheat.engine import Bucket, Queue
from preheat.errors import (
    Conflict,
    EngineUnavailable,
    InvalidRequest,
    JobNotFound,
    NoLiveWorker,
    ObjectNotFound,
    WorkerNotFound,
)
from preheat.jobs import Action, Batch, JobSpec, JobState
from preheat.paths import UfsPath
from preheat.versions import DatasetVersion
from tests.unit.memory_cluster import SETTINGS, Cluster, load


async def test_a_load_ends_with_every_object_on_its_owner(cluster: Cluster):
    data = cluster.fill(333)
    submitted = await cluster.coordinator.service.submit(load(batch_size=7, verify=True))
    assert submitted.job.state is JobState.WAITING
    assert await cluster.ended(submitted.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(submitted.job.id)).job
    assert (job.work.listed.objects, job.work.done.objects, job.work.remaining.objects) == (333, 333, 0)
    assert job.verification is not None
    assert job.verification.done == job.work.listed
    for uri, body in data.items():
        (owner,) = cluster.coordinator.cluster.placement.owners(uri)
        held = next(worker for worker in cluster.workers if worker.settings.id == owner.id).store
        item = held.lookup(uri)
        assert item is not None
        assert held.read(item) == body
    version = DatasetVersion()
    version.update([await cluster.origin.stat(path) for path in map(UfsPath.parse, sorted(data))])
    assert f"sha256:{job.work.version}" == str(version)


async def test_a_second_load_skips_what_is_hot_and_fetches_what_changed(cluster: Cluster):
    cluster.fill(50)
    first = await cluster.coordinator.service.submit(load())
    await cluster.ended(first.job.id)
    cluster.origin.write("s3://b/data/0007", b"new")
    second = await cluster.coordinator.service.submit(load())
    assert second.job.id != first.job.id
    assert await cluster.ended(second.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(second.job.id)).job
    assert (job.work.skipped.objects, job.work.done.objects) == (49, 1)
    assert cluster.cached("s3://b/data/0007") == [b"new"]
    assert job.work.version != (await cluster.coordinator.service.get(first.job.id)).job.work.version


async def test_without_skip_everything_is_fetched_again(cluster: Cluster):
    cluster.fill(5)
    for _ in range(2):
        known = await cluster.coordinator.service.submit(load(skip_if_exists=False))
        await cluster.ended(known.job.id)
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.work.skipped.objects, job.work.done.objects) == (0, 5)
    assert sum(worker.reads.counters.load_reads for worker in cluster.workers) == 10


async def test_replicas_count_once_and_are_on_both_workers(cluster: Cluster):
    cluster.fill(20)
    known = await cluster.coordinator.service.submit(load(replicas=2, verify=True))
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert (await cluster.coordinator.service.get(known.job.id)).job.work.done.objects == 20
    assert cluster.cached("s3://b/data/0003") == [b"object 3", b"object 3"]


async def test_several_paths_and_a_filter(cluster: Cluster):
    cluster.fill(30)
    cluster.origin.write("s3://b/more/a.jpg", b"a")
    cluster.origin.write("s3://b/more/a.txt", b"t")
    spec = load("s3://b/data/0001", "s3://b/more/", file_filter_regex=r".*(\.jpg|1)")
    known = await cluster.coordinator.service.submit(spec)
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert (await cluster.coordinator.service.get(known.job.id)).job.work.done.objects == 2
    assert cluster.cached("s3://b/more/a.txt") == []


async def test_an_object_that_vanishes_fails_the_job_by_name(cluster: Cluster):
    cluster.fill(10)
    cluster.origin.write("s3://b/data/gone", b"x")
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load())
    batches = [
        f"{worker.settings.id}.normal.{known.job.id}.fetch-1-{n}" for n in range(2) for worker in cluster.workers
    ]
    async with asyncio.timeout(5):
        while not any([await cluster.engine.peek(Queue.BATCHES, subject) for subject in batches]):
            await asyncio.sleep(0.01)
    cluster.origin.remove("s3://b/data/gone")
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.FAILED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.work.done.objects, job.work.failed.objects) == (10, 1)
    assert job.failures[0].path == "s3://b/data/gone"
    assert job.failures[0].code == "object_not_found"
    assert "1 of 11 files could not be loaded" in job.reason


async def test_a_lost_workers_batches_go_to_the_others(cluster: Cluster):
    data = cluster.fill(100)
    await cluster.kill("worker-1")
    cluster.start("worker-1", asyncio.create_task(cluster.workers[1].run(execute=False)))  # alive but stuck
    known = await cluster.coordinator.service.submit(load(batch_size=10))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 1, seconds=5)
    await cluster.kill("worker-1")
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert job.work.done.objects == 100
    assert all(cluster.workers[0].store.lookup(uri) for uri in data)


async def test_another_coordinator_takes_a_job_over(cluster: Cluster):
    cluster.fill(200)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load(batch_size=10))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 2, seconds=5)
    await cluster.kill("coordinator-0")
    cluster.coordinator = cluster.new_coordinator("coordinator-1")
    cluster.start("coordinator-1", asyncio.create_task(cluster.coordinator.run()))
    cluster.resume_workers()
    async with asyncio.timeout(5):
        await cluster.coordinator.wait_loaded()
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.owner, job.generation) == ("coordinator-1", 2)
    assert (job.work.listed.objects, job.work.done.objects + job.work.skipped.objects) == (200, 200)


async def test_what_failed_on_one_owner_is_known_to_the_next_coordinator(cluster: Cluster):
    cluster.fill(20)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    known = await service.submit(load(replicas=2, batch_size=20))
    known = await service.wait(known.job.id, after=known.revision + 1, seconds=5)
    for number in range(10):
        cluster.origin.remove(f"s3://b/data/{number:04d}")
    cluster.start("executor-0", asyncio.create_task(cluster.workers[0].executor.run()))
    async with asyncio.timeout(5):
        while not any(batch.parked for batch in known.job.work.open.values()):
            known = await service.wait(known.job.id, after=known.revision, seconds=5)
    assert not any(batch.failed for batch in known.job.work.open.values())  # a record has a limit
    await cluster.kill("coordinator-0")
    cluster.coordinator = cluster.new_coordinator("coordinator-1")
    cluster.start("coordinator-1", asyncio.create_task(cluster.coordinator.run()))
    for number in range(5):
        cluster.origin.write(f"s3://b/data/{number:04d}", b"for the other owner, as another version")
    cluster.start("executor-1", asyncio.create_task(cluster.workers[1].executor.run()))
    async with asyncio.timeout(5):
        await cluster.coordinator.wait_loaded()
    assert await cluster.ended(known.job.id) is JobState.FAILED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.work.done.objects, job.work.failed.objects) == (10, 10)
    assert {(failed.path[-1], failed.code) for failed in job.failures} == {
        (str(n), "object_not_found") for n in range(10)
    }
    logged = {key for key, entry in cluster.engine._values[Bucket.FAILURES].items() if entry.value is not None}
    assert not any(".open." in key for key in logged)  # nothing is parked any more


async def test_the_same_job_is_submitted_once(cluster: Cluster):
    cluster.fill(10)
    await cluster.pause_workers()
    submits = await asyncio.gather(*(cluster.coordinator.service.submit(load()) for _ in range(5)))
    assert len({known.job.id for known in submits}) == 1
    assert sorted(known.attached for known in submits) == [False, True, True, True, True]


async def test_an_idempotency_key_returns_its_job_even_after_its_end(cluster: Cluster):
    cluster.fill(3)
    first = await cluster.coordinator.service.submit(load(), idempotency_key="k1")
    await cluster.ended(first.job.id)
    again = await cluster.coordinator.service.submit(load(), idempotency_key="k1")
    assert (again.job.id, again.attached) == (first.job.id, True)
    with pytest.raises(Conflict, match="k1"):
        await cluster.coordinator.service.submit(load(replicas=2), idempotency_key="k1")


async def test_stop(cluster: Cluster):
    cluster.fill(50)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load())
    stopped = await cluster.coordinator.service.stop(known.job.id)
    assert stopped.job.state is JobState.STOPPED
    assert (await cluster.coordinator.service.stop(known.job.id)).revision == stopped.revision
    again = await cluster.coordinator.service.submit(load())
    assert again.job.id != known.job.id
    cluster.resume_workers()
    assert await cluster.ended(again.job.id) is JobState.SUCCEEDED


async def test_a_job_without_workers_fails_and_says_so(cluster: Cluster):
    cluster.fill(5)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load())
    for worker in cluster.workers:
        await cluster.kill(worker.settings.id)
    assert await cluster.ended(known.job.id) is JobState.FAILED
    assert "No worker was live" in (await cluster.coordinator.service.get(known.job.id)).job.reason
    with pytest.raises(NoLiveWorker):
        await cluster.coordinator.service.submit(load())


async def test_bad_requests_are_refused_by_name(cluster: Cluster):
    cluster.fill(1)
    service = cluster.coordinator.service
    for spec, message in [
        (load("s3://b/none/"), "s3://b/none/"),
        (load(replicas=3), "replicas=3 is more than the number of live workers, 2"),
        (load(replicas=0), "replicas=0"),
        (load(min_hot_fraction=1.5), "minHotFraction=1.5"),
        (load(max_failed_files=-1), "maxFailedFiles=-1"),
        (load(deadline=1.0), "deadline=1970-01-01"),
        (load(bandwidth=0), "bandwidth should be greater than 0"),
        (load(file_filter_regex="("), "fileFilterRegex="),
        (load("nonsense"), "path='nonsense'"),
        (JobSpec(), "paths is empty"),
    ]:
        with pytest.raises((InvalidRequest, ObjectNotFound), match=message.replace("(", r"\(")):
            await service.submit(spec)
    with pytest.raises(JobNotFound, match="'x'"):
        await service.get("x")
    assert service.list() == []


async def test_verify_repairs_what_is_missing_and_fails_what_cannot_be_hot(cluster: Cluster):
    cluster.fill(4)
    worker = cluster.workers[0]
    entries = tuple([await cluster.origin.stat(UfsPath.parse(f"s3://b/data/{n:04d}")) for n in range(4)])
    batch = Batch(id="v", job_id="j", action=Action.VERIFY, root="s3://b/", entries=entries)
    cluster.origin.write("s3://b/data/0002", b"changed since")
    result = await worker.executor.execute(worker.executor.receive(msgspec.json.encode(batch)))
    assert result.done.objects == 3
    assert [(item.path, item.code) for item in result.failed] == [("s3://b/data/0002", "version_changed")]


async def test_a_job_goes_on_as_long_as_somebody_waits_for_it(cluster: Cluster):
    cluster.fill(20)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    job_id = (await service.submit(load())).job.id
    for waiter in ("a", "b"):
        await service.claim(job_id, Claim(waiter=waiter, fence=f"{waiter}-old"))
    await service.claim(job_id, Claim(waiter="a", fence="a-new"))
    for waiter, fence in (("a", "a-old"), ("a", "a-new")):  # the first is stale, the second makes a leave
        await service.cancel(job_id, waiter, fence)
    await asyncio.sleep(1.5)  # past the grace and a look of the runner
    assert not (await service.get(job_id)).job.state.ended
    await service.cancel(job_id, "b", "b-old")
    assert await cluster.ended(job_id) is JobState.STOPPED
    stopped = (await service.get(job_id)).job
    assert stopped.abandoned
    assert "Everyone who waited" in stopped.reason


async def test_a_job_whose_only_waiter_vanished_stops_when_its_lease_has_run_out(cluster: Cluster):
    cluster.fill(20)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    known = await service.submit(load(), claim=Claim(waiter="a", fence="a-fence-1", lease=0.2))
    assert await cluster.ended(known.job.id) is JobState.STOPPED
    stopped = (await service.get(known.job.id)).job
    assert stopped.abandoned
    assert "not heard of" in stopped.reason


async def test_the_bandwidth_changes_while_the_job_runs(cluster: Cluster):
    cluster.origin.write("s3://b/data/x", bytes(1_000_000))
    service = cluster.coordinator.service
    job_id = (await service.submit(load(bandwidth=10_000))).job.id
    assert not (await service.wait(job_id, after=1 << 60, seconds=1)).job.state.ended
    await service.set_bandwidth(job_id, None)
    assert await cluster.ended(job_id) is JobState.SUCCEEDED
    with pytest.raises(Conflict, match="has ended"):
        await service.set_bandwidth(job_id, 5)


async def test_a_deadline_ends_the_job_and_says_how_far_it_was(cluster: Cluster):
    cluster.fill(20)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load(deadline=time.time() + 1))
    assert await cluster.ended(known.job.id) is JobState.FAILED
    assert "deadline passed when 0.0%" in (await cluster.coordinator.service.get(known.job.id)).job.reason


async def test_partial_success_within_the_criterion(cluster: Cluster):
    cluster.fill(9)
    cluster.origin.write("s3://b/data/gone", b"x")
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load(max_failed_files=1))
    await cluster.coordinator.service.wait(known.job.id, after=known.revision + 1, seconds=5)
    cluster.origin.remove("s3://b/data/gone")
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    assert (job.work.done.objects, job.work.failed.objects, job.failures[0].path) == (9, 1, "s3://b/data/gone")


async def test_jobs_beyond_the_limit_wait_in_order(cluster: Cluster):
    await cluster.pause_workers()
    ids = []
    for number in range(SETTINGS.max_running + 3):
        cluster.origin.write(f"s3://b/{number:02d}/x", b"x")
        ids.append((await cluster.coordinator.service.submit(load(f"s3://b/{number:02d}/"))).job.id)
    running = ids[: SETTINGS.max_running]
    for job_id in running:
        await cluster.coordinator.service.wait(job_id, after=0, seconds=5)
    async with asyncio.timeout(5):
        while any([(await cluster.coordinator.service.get(job_id)).queue_position for job_id in running]):
            await asyncio.sleep(0.01)
    waiting = [await cluster.coordinator.service.get(job_id) for job_id in ids[SETTINGS.max_running :]]
    assert [known.queue_position for known in waiting] == [1, 2, 3]
    cluster.resume_workers()
    assert {await cluster.ended(job_id) for job_id in ids} == {JobState.SUCCEEDED}


async def test_a_retry_does_only_what_failed(cluster: Cluster):
    cluster.fill(30)
    for name in ("gone", "back"):
        cluster.origin.write(f"s3://b/data/{name}", b"x")
    await cluster.pause_workers()
    service = cluster.coordinator.service
    known = await service.submit(load(verify=True))
    await service.wait(known.job.id, after=known.revision + 1, seconds=5)
    for name in ("gone", "back"):
        cluster.origin.remove(f"s3://b/data/{name}")
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.FAILED
    failed = [item.path async for chunk in service.failures(known.job.id) for item in chunk]
    assert sorted(failed) == ["s3://b/data/back", "s3://b/data/gone"]

    cluster.origin.write("s3://b/data/back", b"again")
    first = await service.retry(known.job.id)
    assert await cluster.ended(first.job.id) is JobState.FAILED
    job = (await service.get(first.job.id)).job
    assert (job.work.listed.objects, job.work.done.objects, job.work.failed.objects) == (2, 1, 1)
    assert [item.path for item in job.failures] == ["s3://b/data/gone"]
    assert cluster.cached("s3://b/data/back") == [b"again"]

    cluster.origin.write("s3://b/data/gone", b"too")
    second = await service.retry(first.job.id)
    assert await cluster.ended(second.job.id) is JobState.SUCCEEDED
    job = (await service.get(second.job.id)).job
    assert job.verification is not None
    assert (job.work.done.objects, job.verification.done.objects) == (1, 1)
    with pytest.raises(Conflict, match="No file"):
        await service.retry(second.job.id)


async def test_the_failure_log_names_more_than_the_record(cluster: Cluster):
    data = cluster.fill(250)
    await cluster.pause_workers()
    known = await cluster.coordinator.service.submit(load())
    async with asyncio.timeout(5):
        while not (await cluster.coordinator.service.get(known.job.id)).job.work.listing_done:
            await asyncio.sleep(0.01)
    for uri in data:
        cluster.origin.remove(uri)
    cluster.resume_workers()
    assert await cluster.ended(known.job.id) is JobState.FAILED
    job = (await cluster.coordinator.service.get(known.job.id)).job
    failed = [item.path async for chunk in cluster.coordinator.service.failures(known.job.id) for item in chunk]
    assert (len(job.failures), sorted(failed)) == (100, sorted(data))


async def test_concurrent_submits_with_one_key_make_one_job_and_refuse_another(cluster: Cluster):
    cluster.fill(5)
    service = cluster.coordinator.service
    same = [service.submit(load(), idempotency_key="k") for _ in range(3)]
    other = service.submit(load("s3://b/data/0001"), idempotency_key="k")
    *known, refused = await asyncio.gather(*same, other, return_exceptions=True)
    assert isinstance(refused, Conflict)
    assert len({each.job.id for each in known}) == 1  # type: ignore[union-attr]
    assert len(service.list()) == 1


async def test_a_submit_that_broke_off_is_done_under_the_same_id_when_repeated(cluster: Cluster):
    cluster.fill(5)
    service, engine = cluster.coordinator.service, cluster.engine
    publish = engine.publish

    async def break_off(*_: object) -> bool:
        raise EngineUnavailable("gone")

    engine.publish = break_off  # type: ignore[assignment]
    with pytest.raises(EngineUnavailable):
        await service.submit(load(), idempotency_key="k")
    engine.publish = publish  # type: ignore[method-assign]
    (broken,) = service.list()
    again = await service.submit(load(), idempotency_key="k")
    assert (again.job.id, again.attached) == (broken.job.id, True)
    assert await cluster.ended(again.job.id) is JobState.SUCCEEDED


async def test_a_submit_claims_its_job_and_the_one_it_attaches_to(cluster: Cluster):
    cluster.fill(5)
    await cluster.pause_workers()
    service = cluster.coordinator.service
    known = await service.submit(load(), claim=Claim(waiter="a", fence="a-fence-1"))
    twin = await service.submit(load(), claim=Claim(waiter="b", fence="b-fence-1"))
    assert twin.job.id == known.job.id
    await service.cancel(known.job.id, "a", "a-fence-1")
    await asyncio.sleep(1)  # past the grace
    assert not (await service.get(known.job.id)).job.state.ended
    await service.cancel(known.job.id, "b", "b-fence-1")
    assert await cluster.ended(known.job.id) is JobState.STOPPED


async def test_a_worker_that_restarts_makes_a_new_epoch(cluster: Cluster):
    before = cluster.coordinator.cluster.placement
    cluster.workers[0].heart._started_at += 1
    async with asyncio.timeout(5):
        while cluster.coordinator.cluster.placement.epoch == before.epoch:
            await asyncio.sleep(0.01)
    assert [member.id for member in cluster.coordinator.cluster.placement.members] == ["worker-0", "worker-1"]


async def test_a_drained_worker_hands_its_batches_over_and_takes_part_again(cluster: Cluster):
    data = cluster.fill(60)
    await cluster.pause_workers()
    service, view = cluster.coordinator.service, cluster.coordinator.cluster
    known = await service.submit(load(batch_size=5))
    async with asyncio.timeout(5):
        while not (await service.get(known.job.id)).job.work.listing_done:
            await asyncio.sleep(0.01)
    await view.set_drained("worker-1", drained=True)
    await cluster.live(1)
    cluster.start("worker-0-executor", asyncio.create_task(cluster.workers[0].executor.run()))
    assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
    assert cluster.workers[0].store.usage().objects == len(data)
    await view.set_drained("worker-1", drained=False)
    await cluster.live(2)
    with pytest.raises(WorkerNotFound, match="'nobody'"):
        await view.set_drained("nobody", drained=True)


async def test_a_stopped_job_leaves_its_workers_at_once(cluster: Cluster):
    for number in range(4):
        cluster.origin.write(f"s3://b/large/{number}", bytes(1 << 20))
    cluster.fill(5)
    service = cluster.coordinator.service
    slow = await service.submit(load("s3://b/large/", bandwidth=100_000))  # 40 s of it
    async with asyncio.timeout(5):
        while not any(worker.executor.transfers[slow.job.id] for worker in cluster.workers):
            await asyncio.sleep(0.01)
    await service.stop(slow.job.id)
    known = await service.submit(load())
    async with asyncio.timeout(5):
        assert await cluster.ended(known.job.id) is JobState.SUCCEEDED
        while any(worker.executor.active for worker in cluster.workers):
            await asyncio.sleep(0.01)
    stopped = (await service.get(slow.job.id)).job
    assert (stopped.state, stopped.work.failed.objects) == (JobState.STOPPED, 0)
