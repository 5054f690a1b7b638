"""What is asked of buckets: which there are, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence

from preheat.errors import BucketNotFound, ObjectNotFound
from preheat.paths import UfsPath
from preheat.ufs import BucketLister, is_marker
from preheat.versions import ObjectInfo
from preheat.worker._freshness import NotCached, Wish, wished
from preheat.worker._policies import Policies
from preheat.worker._reads import ReadService
from preheat.worker.s3 import _answers as answers
from preheat.worker.s3 import _xml as xml
from preheat.worker.s3._access import check_bucket, check_write, sees_bucket
from preheat.worker.s3._credentials import authorize_listing
from preheat.worker.s3._errors import S3Error
from preheat.worker.s3._listing import ListPage, ListQuery, list_page
from preheat.worker.s3._requests import S3Request

REGION = "us-east-1"
"""Of every bucket; whoever signs for another region is let in all the same."""
_HEADERS = {"x-amz-bucket-region": REGION}


class Buckets:
    """Tells of buckets: the mounts, or where there are none those of the under store.

    Args:
        reads: lists objects.
        policies: knows the mounts.
        lister: names the under store's buckets.
    """

    def __init__(self, reads: ReadService, policies: Policies, lister: BucketLister) -> None:
        self._reads = reads
        self._policies = policies
        self._lister = lister

    async def list_buckets(self, request: S3Request) -> bytes:
        """Answer a ListBuckets with those of which the sender may see something."""
        mounts = self._policies.mounts
        if mounts.names:
            found = [(name, 0.0) for name in mounts.names]
        else:
            found = [(bucket.name, bucket.created_at) for bucket in await self._lister.list_buckets()]
        seen = [item for item in found if sees_bucket(request.sender, mounts.resolve(item[0], ""))]
        return answers.document(xml.list_buckets(seen), request.http)

    async def head(self, request: S3Request) -> bytes:
        """Answer a HeadBucket."""
        await self._check_exists(request)
        return answers.nothing(request.http, headers=_HEADERS)

    async def create(self, request: S3Request) -> bytes:
        """Answer a CreateBucket, which clients also send to be sure that there is one."""
        try:
            check_write(request.sender, self._policies.mounts.resolve(request.bucket, ""))
            await self._check_exists(request)
        except BucketNotFound as error:
            raise S3Error(
                "NotImplemented", "Buckets are not made through Preheat.", remedy="Make it where the data is."
            ) from error
        raise S3Error("BucketAlreadyOwnedByYou", "The bucket is there already.")

    async def location(self, request: S3Request) -> bytes:
        """Answer a GetBucketLocation."""
        await self._check_exists(request)
        return answers.document(xml.location(REGION), request.http)

    async def versioning(self, request: S3Request) -> bytes:
        """Answer a GetBucketVersioning: there is none."""
        await self._check_exists(request)
        return answers.document(xml.versioning(), request.http)

    async def list(self, request: S3Request) -> bytes:
        """Answer a ListObjectsV2 or a ListObjects."""
        query = ListQuery.of(request.fields)
        mounts = self._policies.mounts
        root = mounts.resolve(request.bucket, "")
        authorize_listing(request.sender.grant, mounts.resolve(request.bucket, query.prefix))
        wish = wished(request.headers)
        page = await list_page(query, _Listing(self._reads, root, wish))
        if query.asks_for_marker and not (page.objects or page.groups):
            page = await self._marker(mounts.resolve(request.bucket, query.prefix), query.prefix, wish)
        return answers.document(xml.listing(query, page, bucket=request.bucket), request.http)

    async def _marker(self, path: UfsPath, key: str, wish: Wish) -> ListPage:
        """Return the page of an empty directory: its marker, if there is one, for listings leave markers out."""
        try:
            info, _ = await self._reads.stat(path, wish=wish)
        except (ObjectNotFound, NotCached):
            return ListPage()
        return ListPage(objects=(_renamed(info, key),) if is_marker(key, info.size) else ())

    async def _check_exists(self, request: S3Request) -> None:
        """Return if the sender may know of a bucket, and it is there."""
        mounts = self._policies.mounts
        root = mounts.resolve(request.bucket, "")
        check_bucket(request.sender, root)
        if not mounts.names:
            await self._reads.list(root, after="", limit=1)


class _Listing:
    """Lists a bucket by the keys that S3 knows."""

    def __init__(self, reads: ReadService, root: UfsPath, wish: Wish) -> None:
        self._reads = reads
        self._root = root
        self._wish = wish

    async def __call__(self, directory: str, *, after: str, limit: int) -> Sequence[ObjectInfo]:
        before = self._root.key
        path = UfsPath.parse(f"{self._root}{directory}")  # refuses what would lead out of a directory of files
        found = await self._reads.list(path, after=before + after if after else "", limit=limit, wish=self._wish)
        return [_renamed(item, item.key.removeprefix(before)) for item in found] if before else found


def _renamed(item: ObjectInfo, key: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=item.size, etag=item.etag, last_modified=item.last_modified)
