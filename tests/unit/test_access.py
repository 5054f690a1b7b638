"""Tokens, roles and path prefixes: what is let through, and what never is."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.access import (
    EVERYTHING,
    Grant,
    Role,
    Token,
    TokenRecord,
    acting_for,
    authorize,
    caller,
    check_job,
    may_see,
    parse_lifetime,
    parse_prefix,
)
from preheat.errors import Forbidden, InvalidPath, InvalidRequest, Unauthenticated
from preheat.jobs import JobSpec, JobType
from preheat.paths import UfsPath
from preheat.settings import AccessSettings, TlsSettings, is_loopback


def grant(*prefixes: str, role: Role = Role.SUBMIT) -> Grant:
    return Grant(role=role, prefixes=tuple(parse_prefix(prefix) for prefix in prefixes))


class TestPrefixes:
    @pytest.mark.parametrize("prefix", ["s3://b/data", "s3://b/data/", "s3a://b/data/"])
    @pytest.mark.parametrize(
        ("path", "inside"),
        [
            ("s3://b/data", True),
            ("s3://b/data/", True),
            ("s3://b/data/x", True),
            ("s3n://b/data/x", True),
            ("s3://b/data//x", True),
            ("s3://b/data/..x/a...b/.c", True),
            ("s3://b/database", False),
            ("s3://b/database/x", False),
            ("s3://b/dat", False),
            ("s3://b/", False),
            ("s3://b", False),
            ("s3://bb/data/x", False),
            ("s3://B/data/x", False),
            ("s3://b/Data/x", False),
            ("s3://b//data/x", False),
            ("s3://b/data/../secret", False),
            ("s3://b/data/./x", False),
            ("s3://b/data/..", False),
            ("s3://b/data%2Fx", False),
            ("file:///b/data/x", False),
        ],
    )
    def test_a_prefix_covers_its_name_and_what_is_below(self, prefix: str, path: str, *, inside: bool):
        assert grant(prefix).covers(UfsPath.parse(path)) is inside

    def test_a_bucket_is_a_prefix(self):
        assert grant("s3://b").covers(UfsPath.parse("s3://b/any"))
        assert grant("s3://b").covers(UfsPath.parse("s3://b/"))
        assert not grant("s3://b").covers(UfsPath.parse("s3://bb/any"))

    def test_one_of_several_is_enough(self):
        assert grant("s3://a/x/", "file:///data").covers(UfsPath.parse("file:///data/1"))

    def test_no_prefix_is_everywhere(self):
        assert grant().covers(UfsPath.parse("s3://b/../x"))

    @pytest.mark.parametrize("wrong", ["b/data", "s3://", "s3://b/a//", "s3://b/a//b", "s3://b/../a", "file:///"])
    def test_what_is_no_prefix_is_refused(self, wrong: str):
        with pytest.raises(InvalidPath):
            parse_prefix(wrong)

    @given(st.text(alphabet="ab/.%", max_size=12))
    def test_what_is_covered_is_listed_below_the_prefix(self, key: str):
        """The object of the prefix's name, or a key that goes on after a slash: nothing else, whatever the key."""
        path = UfsPath(scheme="s3", bucket="b", key=key)
        if grant("s3://b/a").covers(path):
            assert key == "a" or key.startswith("a/")
            assert not {".", ".."} & set(key.split("/"))

    @given(st.text(alphabet="ab/.%", max_size=12))
    def test_what_is_plainly_covered_is_covered(self, key: str):
        path = UfsPath(scheme="s3", bucket="b", key=key)
        if grant("s3://b/a").plainly_covers(str(path)):
            assert grant("s3://b/a").covers(path)

    def test_a_quick_look_is_enough_for_what_is_usual(self):
        assert grant("s3://b/a").plainly_covers("s3://b/a/b.jpg")
        assert grant().plainly_covers("s3://any/../thing")


class TestAuthorize:
    @pytest.mark.parametrize("needed", list(Role))
    @pytest.mark.parametrize("role", list(Role))
    def test_a_role_includes_those_before_it(self, role: Role, needed: Role):
        allowed = {Role.READ: {"read"}, Role.SUBMIT: {"read", "submit"}, Role.ADMIN: {"read", "submit", "admin"}}
        if needed in allowed[role]:
            authorize(Grant(role=role), needed)
        else:
            with pytest.raises(Forbidden, match=f"role {needed}; .* role {role}"):
                authorize(Grant(role=role), needed)

    def test_each_path_counts(self):
        inside, outside = UfsPath.parse("s3://b/p/x"), UfsPath.parse("s3://b/q/x")
        authorize(grant("s3://b/p"), Role.SUBMIT, [inside])
        with pytest.raises(Forbidden, match="s3://b/q/x"):
            authorize(grant("s3://b/p"), Role.SUBMIT, [inside, outside])


class TestJobs:
    INSIDE = JobSpec(paths=("s3://b/p/x", "s3://b/p/y"))
    OUTSIDE = (
        JobSpec(paths=("s3://b/p/x", "s3://b/q/y")),
        JobSpec(paths=("s3://b/",)),
        JobSpec(type=JobType.COPY, paths=("s3://b/p/x",), destination="s3://b/q/x"),
        JobSpec(type=JobType.MOVE, paths=("s3://b/q/x",), destination="s3://b/p/x"),
        JobSpec(index="s3://b/q/index.txt"),
        JobSpec(),
    )

    def test_the_process_itself_may_do_everything(self):
        assert caller() is EVERYTHING
        for spec in self.OUTSIDE:
            check_job(spec)

    def test_a_caller_is_bound_to_its_prefixes(self):
        with acting_for(grant("s3://b/p/")):
            check_job(self.INSIDE)
            for spec in self.OUTSIDE:
                with pytest.raises(Forbidden):
                    check_job(spec)
                assert not may_see(spec)
        assert may_see(self.OUTSIDE[0])

    def test_what_is_no_path_is_refused_and_not_shown(self):
        with acting_for(grant("s3://b/p/")):
            assert not may_see(JobSpec(paths=("nonsense",)))
            with pytest.raises(InvalidPath):
                check_job(JobSpec(paths=("nonsense",)))


class TestTokens:
    def test_a_token_has_an_id_and_256_bits(self):
        token = Token.new()
        kind, token_id, secret = token.text.split("_", 2)
        assert (kind, token_id) == ("ph", token.id)
        assert len(base64.urlsafe_b64decode(secret + "=")) * 8 >= 256
        assert Token.parse(f" {token.text}\n") == token
        assert Token.new().text != token.text

    def test_the_secret_is_neither_in_the_record_nor_in_a_repr(self):
        token = Token.new()
        record = token.record(grant=EVERYTHING, created_at=0.0, name="n")
        stored = msgspec.json.encode(record).decode()
        for shown in (repr(token), str(token), repr(record), stored):
            assert token.secret not in shown
        assert json.loads(stored)["sha256"] == token.sha256
        assert msgspec.json.decode(stored, type=TokenRecord) == record

    def test_only_the_same_secret_is_accepted(self):
        token = Token.new()
        record = token.record(grant=EVERYTHING, created_at=0.0)
        assert record.accepts(Token.parse(token.text))
        assert not record.accepts(Token(id=token.id, secret=Token.new().secret))
        assert not record.accepts(Token(id=token.id, secret=record.sha256))

    def test_a_token_expires(self):
        record = Token.new().record(grant=EVERYTHING, created_at=100.0, lifetime=10.0)
        assert [record.expired(now) for now in (109.0, 110.0)] == [False, True]
        assert not Token.new().record(grant=EVERYTHING, created_at=100.0).expired(1e12)

    def test_an_admin_is_bound_to_no_path(self):
        with pytest.raises(InvalidRequest, match="admin"):
            Token.new().record(grant=grant("s3://b/p", role=Role.ADMIN), created_at=0.0)

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Basic cGg6eA==", "Bearer ph_1_short", "ph_1_" + "x" * 43, "Bearer ph__" + "x" * 43],
    )
    def test_what_is_no_token_is_unauthenticated(self, header: str):
        with pytest.raises(Unauthenticated) as caught:
            Token.from_header(header)
        assert "x" * 43 not in str(caught.value)

    def test_the_scheme_is_read_as_http_says(self):
        token = Token.new()
        assert Token.from_header(f"bearer {token.text}") == Token.from_header(f"Bearer  {token.text} ") == token

    @pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000)])
    def test_lifetimes(self, text: str, seconds: float):
        assert parse_lifetime(text) == seconds

    @pytest.mark.parametrize("text", ["", "d", "0d", "-1d", "1.5h", "30", "1y", "9" * 30 + "d"])
    def test_what_is_no_lifetime_is_refused(self, text: str):
        with pytest.raises(InvalidRequest, match="expires"):
            parse_lifetime(text)


class TestExposure:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "::1", "localhost"])
    def test_loopback_is_open(self, host: str):
        assert is_loopback(host)
        AccessSettings().check_host(host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "node7", "", "127.0.0.1.example.com"])
    def test_the_network_is_not_served_without_a_token_unless_told_so(self, host: str):
        with pytest.raises(InvalidRequest) as caught:
            AccessSettings().check_host(host)
        assert "--auth" in caught.value.remedy
        assert "--allow-anonymous" in caught.value.remedy
        AccessSettings(auth=True).check_host(host)
        AccessSettings(allow_anonymous=True).check_host(host)

    def test_a_certificate_needs_its_key(self, tmp_path):
        with pytest.raises(InvalidRequest, match="belong together"):
            TlsSettings(cert=tmp_path / "cert.pem")
