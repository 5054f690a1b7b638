"""Airflow connections, read as the address of a coordinator."""

import json

import pytest
from airflow.sdk import Connection

from airflow_preheat._endpoint import Endpoint
from airflow_preheat.exceptions import PreheatRequestError


def connection(extra: object = None, **fields: object) -> Connection:
    text = extra if isinstance(extra, str) else json.dumps(extra) if extra is not None else None
    return Connection(conn_id="cache", conn_type="preheat", extra=text, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (connection(host="127.0.0.1"), "http://127.0.0.1:19999"),
        (connection(host="cache", port=8080), "http://cache:8080"),
        (connection(host="cache", port=443, schema="https"), "https://cache:443"),
        (connection(host="https://cache.example.com/"), "https://cache.example.com"),
        (connection(host="https://cache.example.com", port=8443), "https://cache.example.com:8443"),
        (connection({"url": "https://cache.example.com/preheat/"}), "https://cache.example.com/preheat"),
        (connection({"url": "http://other:1"}, host="ignored"), "http://other:1"),
        (connection({"url": ""}, host="cache"), "http://cache:19999"),
    ],
)
def test_the_url_comes_from_the_fields_or_from_the_extra(given, url):
    assert Endpoint.from_connection(given).url == url


def test_a_connection_uri_works():
    endpoint = Endpoint.from_connection(Connection.from_uri("preheat://:s3cret@cache:8080/https", conn_id="cache"))

    assert (endpoint.url, endpoint.token) == ("https://cache:8080", "s3cret")


def test_settings_have_defaults_and_are_read():
    plain = Endpoint.from_connection(connection(host="cache"))
    assert (plain.connect_timeout, plain.request_timeout, plain.verify_tls, plain.ca_cert) == (5, 60, True, None)

    assert plain.dialect == "auto"

    extra = {"connect_timeout": "2", "request_timeout": 7.5, "verify_tls": False, "ca_cert": "ca.pem"}
    endpoint = Endpoint.from_connection(connection(extra, host="cache"))
    assert (endpoint.connect_timeout, endpoint.request_timeout) == (2, 7.5)
    assert (endpoint.verify_tls, endpoint.ca_cert) == (False, "ca.pem")


@pytest.mark.parametrize(("given", "dialect"), [("alluxio-3.6", "alluxio-3.6"), ("Preheat", "preheat"), ("", "auto")])
def test_the_dialect_is_one_of_those_that_are_spoken(given, dialect):
    assert Endpoint.from_connection(connection({"dialect": given}, host="cache")).dialect == dialect


def test_the_token_is_not_in_the_representation():
    assert "s3cret" not in repr(Endpoint.from_connection(connection(host="cache", password="s3cret")))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (connection(), "no host"),
        (connection({"url": "cache:19999"}), "cache:19999"),
        (connection({"url": "ftp://cache"}), "ftp://cache"),
        (connection({"url": "http://cache:port"}), "http://cache:port"),
        (connection("{not json"), "extra is not JSON"),
        (connection([1]), "not a JSON object"),
        (connection({"connect_timeout": "soon"}, host="cache"), "connect_timeout='soon'"),
        (connection({"request_timeout": 0}, host="cache"), "request_timeout=0"),
        (connection({"request_timeout": "nan"}, host="cache"), "request_timeout='nan'"),
        (connection({"verify_tls": "maybe"}, host="cache"), "verify_tls='maybe'"),
        (connection({"dialect": "alluxio-2"}, host="cache"), "dialect='alluxio-2'"),
    ],
)
def test_an_unusable_connection_is_named_with_its_field(given, names):
    with pytest.raises(PreheatRequestError, match="connection 'cache'") as caught:
        Endpoint.from_connection(given)

    assert names in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:s3cret@cache", "http://me:s3cret@cache:port", "me:s3cret@cache"])
def test_credentials_in_the_url_are_refused_and_not_repeated(url):
    with pytest.raises(PreheatRequestError, match="password field") as caught:
        Endpoint.from_connection(connection({"url": url}))

    assert "s3cret" not in str(caught.value)
