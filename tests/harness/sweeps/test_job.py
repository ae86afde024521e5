"""Where a job of a sweep is, and what it may say there."""

import pytest
from hydra.core.hydra_config import HydraConfig

from harness.disk.files import JOB, JOB_LOCK, write_json
from harness.disk.own_folders import hold
from harness.sweeps.job import _own_job_folder
from harness.sweeps.sweep import hide_secrets


@pytest.fixture
def own_folder(configure, tmp_path):
    """own_folder(sweep, number): the folder that a job gets which Hydra has given 0_ppo."""
    configure(tmp_path / "0_ppo")

    def take(sweep, number):
        folder, lock = _own_job_folder(tmp_path / "0_ppo", {"sweep": sweep, "number": number})
        assert HydraConfig.get().runtime.output_dir == str(folder), "the run is made there"
        lock.release()
        return folder.name

    return take


def test_a_job_has_the_folder_that_hydra_gives_and_has_it_again(own_folder, tmp_path):
    assert own_folder("a", 0) == "0_ppo"
    write_json(tmp_path / "0_ppo" / JOB, {"sweep": "a", "number": 0})
    assert own_folder("a", 0) == "0_ppo", "started again by its launcher"
    assert own_folder("b", 0) == "0_ppo", "a later sweep in the same folder"


def test_what_another_job_of_the_sweep_wrote_is_left_alone(own_folder, tmp_path):
    (tmp_path / "0_ppo").mkdir()
    write_json(tmp_path / "0_ppo" / JOB, {"sweep": "a", "number": 0})
    assert own_folder("a", 1) == "0_ppo-2"
    write_json(tmp_path / "0_ppo-2" / JOB, {"sweep": "a", "number": 1})
    assert own_folder("a", 2) == "0_ppo-3"


def test_the_folder_of_a_worker_that_outlived_its_sweep_is_left_alone(own_folder, tmp_path):
    (tmp_path / "0_ppo").mkdir()
    lock = hold(tmp_path / "0_ppo", JOB_LOCK)
    assert own_folder("b", 0) == "0_ppo-2"
    lock.release()
    assert own_folder("b", 0) == "0_ppo"


def test_secrets_are_taken_out_of_what_hydra_wrote(configure, tmp_path):
    file = tmp_path / "multirun.yaml"
    file.write_text("task:\n- seed=1,2\n- +my_token=abc-123\n", encoding="utf-8")
    hide_secrets(file, configure(tmp_path, "+my_token=abc-123"))
    assert file.read_text(encoding="utf-8") == "task:\n- seed=1,2\n- +my_token=<secret>\n"
    hide_secrets(tmp_path / "missing.yaml", configure(tmp_path))
