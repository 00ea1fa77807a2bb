"""Configuration: flags override the environment, which overrides the file; errors are named."""

from dataclasses import dataclass

import pytest

from services.chassis.config import ConfigError, ServerConfig, load, setting
from services.inference.config import InferenceConfig
from services.scoring.config import ScoringConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig(ServerConfig):
    lease_seconds: float = setting(60.0, "length of a lease")
    data: tuple[str, ...] = setting((), "data sets")
    verbose: bool = setting(False, "say more")
    password: str = setting("", "a password", secret=True)


def loaded(tmp_path, file="", environment=None, flags=()):
    path = tmp_path / "settings.toml"
    path.write_text(file)
    return load(SampleConfig, "sample", ["--config", str(path), *flags], environment or {})


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    file, environment = "lease_seconds = 1\n", {"CXREVAL_SAMPLE_LEASE_SECONDS": "2"}
    assert loaded(tmp_path).lease_seconds == 60.0
    assert loaded(tmp_path, file).lease_seconds == 1.0
    assert loaded(tmp_path, file, environment).lease_seconds == 2.0
    assert loaded(tmp_path, file, environment, ["--lease-seconds", "3"]).lease_seconds == 3.0


def test_lists_are_repeated_flags_or_commas(tmp_path):
    assert loaded(tmp_path, flags=["--data", "a=1", "--data", "b=2"]).data == ("a=1", "b=2")
    assert loaded(tmp_path, environment={"CXREVAL_SAMPLE_DATA": "a=1,b=2"}).data == ("a=1", "b=2")
    assert loaded(tmp_path, 'data = ["a=1"]').data == ("a=1",)


@pytest.mark.parametrize(
    ("file", "environment", "flags", "named"),
    [
        ("leese_seconds = 1", {}, [], "unknown key 'leese_seconds'"),
        ("", {"CXREVAL_SAMPLE_LEESE": "1"}, [], "unknown variable CXREVAL_SAMPLE_LEESE"),
        ("lease_seconds = 'long'", {}, [], "lease_seconds is 'long'; expected float"),
        ("", {"CXREVAL_SAMPLE_VERBOSE": "perhaps"}, [], "expected true or false"),
        ("", {}, ["--lease-seconds", "x"], "flag --lease-seconds is 'x'; expected float"),
        ("= 3", {}, [], "cannot read"),
    ],
)
def test_mistakes_are_named_with_their_source(tmp_path, file, environment, flags, named):
    with pytest.raises(ConfigError, match=named):
        loaded(tmp_path, file, environment, flags)


@pytest.mark.parametrize(
    ("flag", "value", "named"),
    [
        ("--listen", "nowhere", "listen is 'nowhere'; expected host:port"),
        ("--listen", "", "listen is ''; expected host:port"),
        (
            "--metrics-listen",
            "127.0.0.1:99999",
            "metrics_listen is '127.0.0.1:99999'; expected host:port",
        ),
        ("--drain-seconds", "nan", "drain_seconds is nan; expected a finite number above 0"),
        ("--deadline-seconds", "0", "deadline_seconds is 0.0; expected a finite number above 0"),
        ("--log-level", "loud", "log_level is 'loud'; expected debug, info, warning, error"),
        (
            "--tls-key",
            "key.pem",
            "tls_key is 'key.pem'; expected tls_certificate and tls_key together",
        ),
        (
            "--tls-certificate",
            "cert.pem",
            "tls_key is ''; expected tls_certificate and tls_key together",
        ),
        (
            "--allowed-certificates",
            "worker",
            "allowed_certificates is .*; expected tls_client_ca with it",
        ),
        (
            "--tls-client-ca",
            "ca.pem",
            "tls_client_ca is 'ca.pem'; expected tls_certificate and tls_key with it",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_starts(tmp_path, flag, value, named):
    with pytest.raises(ConfigError, match=named):
        loaded(tmp_path, flags=[flag, value])


@pytest.mark.parametrize(
    ("program", "kind", "name", "least"),
    [
        ("scoring", ScoringConfig, "max_concurrent", 1),
        ("scoring", ScoringConfig, "max_streams", 1),
        ("inference", InferenceConfig, "max_batch_size", 1),
        ("inference", InferenceConfig, "threads", 0),
    ],
)
def test_a_setting_below_its_least_value_is_refused(program, kind, name, least):
    with pytest.raises(ConfigError, match=f"^{name} is {least - 1}; expected at least {least}$"):
        load(kind, program, [f"--{name.replace('_', '-')}={least - 1}"], {})
    assert load(kind, program, [f"--{name.replace('_', '-')}={least}"], {})


def test_variables_that_kubernetes_adds_for_a_service_are_ignored(tmp_path):
    environment = {
        "CXREVAL_SAMPLE_SERVICE_HOST": "10.0.0.1",
        "CXREVAL_SAMPLE_PORT": "tcp://10.0.0.1:50051",
    }
    assert loaded(tmp_path, environment=environment) == SampleConfig()


def test_check_config_prints_and_exits_well(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        loaded(tmp_path, flags=["--check-config", "--verbose", "true"])
    assert caught.value.code == 0
    assert '"verbose": true' in capsys.readouterr().out


def test_check_config_never_prints_a_secret(tmp_path, capsys):
    with pytest.raises(SystemExit):
        loaded(tmp_path, flags=["--check-config", "--password", "hunter2"])
    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert '"password": "(set)"' in printed
