"""What `preheat up` plans: settings, addresses, the engine's configuration, command lines."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from preheat.cluster import ClusterFiles, ClusterSettings, default_data_dir
from preheat.cluster._nats import render_config, write_config
from preheat.cluster._plan import plan_cluster
from preheat.cluster._ports import Address, Addresses, choose_addresses, wanted_s3, wanted_workers
from preheat.errors import Conflict, InvalidRequest


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"workers": 0}, "workers=0"),
            ({"capacity": 0}, "capacity=0"),
            ({"port": 65536}, "--port"),
            ({"worker_port": 65535, "workers": 2}, "--worker-port"),
            ({"worker_s3_port": 65535, "workers": 2}, "--worker-s3-port"),
            ({"workers": 2, "worker_hosts": ("127.0.0.2",)}, "127.0.0.2"),
            ({"workers": 2, "worker_hosts": ("127.0.0.2", "127.0.0.2")}, "different"),
            ({"worker_hosts": ("node7",)}, "node7"),
        ],
    )
    def test_a_wrong_value_is_named(self, tmp_path: Path, wrong, named):
        with pytest.raises(InvalidRequest, match=named):
            ClusterSettings(data_dir=tmp_path, **wrong)

    def test_hosts_share_one_port_so_the_last_port_is_allowed(self, tmp_path: Path):
        settings = ClusterSettings(
            data_dir=tmp_path, workers=2, worker_hosts=("127.0.0.2", "127.0.0.3"), worker_port=65535
        )
        assert [str(each) for each in wanted_workers(settings)] == ["127.0.0.2:65535", "127.0.0.3:65535"]

    def test_s3_ports_count_up_unless_there_are_none(self, tmp_path: Path):
        settings = ClusterSettings(data_dir=tmp_path, workers=2, worker_s3_port=29998)
        assert [str(each) for each in wanted_s3(settings)] == ["127.0.0.1:29998", "127.0.0.1:29999"]
        assert wanted_s3(replace(settings, worker_s3_port=None)) == ()

    def test_default_data_dir_follows_xdg(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/ada")
        assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/preheat")
        assert default_data_dir({}) == Path("/home/ada/.local/share/preheat")

    def test_a_data_dir_below_a_file_is_refused(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidRequest, match=r"data-dir=.*Not a directory"):
            ClusterFiles(tmp_path / "file" / "data").make()


class TestAddresses:
    def test_worker_ports_count_up(self, tmp_path: Path):
        settings = ClusterSettings(data_dir=tmp_path, workers=3, worker_port=28080)
        assert [each.port for each in wanted_workers(settings)] == [28080, 28081, 28082]

    def test_port_0_becomes_different_free_ports(self, tmp_path: Path):
        chosen = choose_addresses(
            ClusterSettings(data_dir=tmp_path, workers=3, port=0, worker_port=0, worker_s3_port=0)
        )
        ports = [chosen.coordinator.port, chosen.nats.port, *(each.port for each in chosen.workers + chosen.s3)]
        assert 0 not in ports
        assert len(set(ports)) == 8

    def test_a_taken_coordinator_port_names_the_port_and_the_option(self, tmp_path: Path, taken: int):
        with pytest.raises(Conflict, match=f"Port {taken} .*taken") as caught:
            choose_addresses(ClusterSettings(data_dir=tmp_path, port=taken, worker_port=0, worker_s3_port=0))
        assert "--port" in caught.value.remedy

    def test_a_taken_worker_port_names_its_option(self, tmp_path: Path, taken: int):
        with pytest.raises(Conflict, match=str(taken)) as caught:
            choose_addresses(ClusterSettings(data_dir=tmp_path, port=0, worker_port=taken, worker_s3_port=0))
        assert "--worker-port" in caught.value.remedy

    def test_an_address_of_another_machine_names_its_option(self, tmp_path: Path):
        hosts = ("192.0.2.1",)  # TEST-NET-1 belongs to nobody
        with pytest.raises(InvalidRequest, match=r"192\.0\.2\.1") as caught:
            choose_addresses(ClusterSettings(data_dir=tmp_path, port=0, worker_hosts=hosts, worker_s3_port=0))
        assert "--worker-hosts" in caught.value.remedy


class TestEngineConfiguration:
    LISTEN = Address(host="127.0.0.1", port=4222)

    def test_it_is_durable_on_loopback_and_closed(self):
        text = render_config(listen=self.LISTEN, store=Path("/d/nats/store"), token="t0ken")
        for line in (
            'listen: "127.0.0.1:4222"',
            'store_dir: "/d/nats/store"',
            "sync_interval: always",
            'token: "t0ken"',
        ):
            assert line in text

    def test_a_quote_in_the_data_dir_stays_inside_the_string(self):
        text = render_config(listen=self.LISTEN, store=Path('/d/a"b'), token="t")
        assert 'store_dir: "/d/a\\"b"' in text

    def test_files_with_the_token_are_private_and_the_token_is_kept(self, tmp_path: Path):
        url = write_config(tmp_path / "nats", listen=self.LISTEN)
        again = write_config(tmp_path / "nats", listen=self.LISTEN)
        assert url == again
        token = url.removeprefix("nats://").removesuffix("@127.0.0.1:4222")
        assert len(token) == 48
        assert token in (tmp_path / "nats" / "nats.conf").read_text()
        for name in ("nats.conf", "token"):
            assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600


class TestPlan:
    SECRET = "nats://s3cret@127.0.0.1:4222"

    @pytest.fixture
    def plan(self, tmp_path: Path):
        return plan_cluster(
            ClusterSettings(data_dir=tmp_path, workers=2, capacity=4096),
            Addresses(
                coordinator=Address(host="127.0.0.1", port=19999),
                nats=Address(host="127.0.0.1", port=4222),
                workers=(Address(host="127.0.0.1", port=28080), Address(host="127.0.0.1", port=28081)),
                s3=(Address(host="127.0.0.1", port=29998), Address(host="127.0.0.1", port=29999)),
            ),
            nats_server=Path("/opt/nats-server"),
            nats_url=self.SECRET,
            environment={"AWS_PROFILE": "lab", "PREHEAT_ID": "mine", "PREHEAT_PUBLIC_URL": "http://lab"},
        )

    def test_command_lines_name_the_parts_and_no_secret(self, plan):
        commands = {part.name: " ".join(part.command) for part in plan.parts}
        assert "nats-server" in commands["nats-server"]
        assert "preheat.cli coordinator --host 127.0.0.1 --port 19999" in commands["coordinator"]
        assert "worker --id worker-1 --host 127.0.0.1 --port 28081 --s3-port 29999" in commands["worker-1"]
        assert "--capacity 4096" in commands["worker-1"]
        assert "s3cret" not in json.dumps(commands)
        assert "s3cret" not in repr(plan)

    def test_the_engine_url_goes_by_the_environment(self, plan):
        for part in (plan.coordinator, *plan.workers):
            assert part.environment == {"AWS_PROFILE": "lab", "PREHEAT_NATS_URL": self.SECRET}

    def test_each_worker_has_a_directory_of_its_own(self, plan, tmp_path: Path):
        first, second = (part.command[part.command.index("--data-dir") + 1] for part in plan.workers)
        assert first == str(tmp_path / "workers" / "worker-0")
        assert first != second
