"""s3fs."""

import s3fs
from fsspec_session import Operations
from session import ONE, Place, fetch_presigned, main, refused


def filesystem(place):
    return s3fs.S3FileSystem(
        key=place.access_key,
        secret=place.secret_key,
        endpoint_url=place.endpoint,
        client_kwargs={"region_name": place.region},
        config_kwargs={"retries": {"total_max_attempts": 1}},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


class WithS3fs(Operations):
    """What s3fs has besides."""

    def list_buckets(self):
        assert self.place.bucket in self.fs.ls("")

    def presigned(self):
        fetch_presigned(self.fs.sign(self.path(ONE), expiration=100))

    def wrong_key(self):
        wrong = filesystem(self.place.wrong())
        refused(lambda: wrong.cat(self.path(ONE)), "PermissionError", "SignatureDoesNotMatch")


here = Place.here()
main(WithS3fs(filesystem(here), here).named())
