"""Assets that stand for warm datasets."""

import pytest
from airflow.sdk import Asset

from airflow_preheat.assets import warm_asset


@pytest.mark.parametrize("path", ["s3://bucket/a/b/", "s3a://bucket/a/b", "preheat://bucket/a/b"])
def test_a_dataset_has_one_asset_however_it_is_written(path):
    asset = warm_asset(path)

    assert asset == Asset("preheat://bucket/a/b")
    assert asset.uri == "preheat://bucket/a/b"


def test_an_asset_can_have_a_name():
    assert warm_asset("s3://bucket/a", name="digits").name == "digits"


@pytest.mark.parametrize("path", ["bucket/a", "file:///data", "gs://bucket/a"])
def test_a_path_without_an_asset_is_named(path):
    with pytest.raises(ValueError, match=path):
        warm_asset(path)


@pytest.mark.parametrize("uri", ["preheat:///a", "preheat://bucket/a?version=1"])
def test_airflow_refuses_a_uri_that_names_no_dataset(uri):
    with pytest.raises(ValueError, match="Write preheat://BUCKET/PREFIX"):
        Asset(uri=uri)
