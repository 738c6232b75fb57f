"""The scripts as a user calls them: a mistake ends in one line on stderr, and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from senone.corpus.contest import write_utterances
from senone.hydra_glue import register_draws

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder of its own, on one thread."""
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["optim.learning_rate=1"], ["unknown key optim.learning_rate", "lr, final_lr, warmup"]),
        (["+optim.learning_rate=1"], ["unknown key optim.learning_rate", "lr, final_lr, warmup"]),
        (["model=committee", "model.members.bilstm.depth=3"], ["unknown key model.members.bilstm.depth"]),
        (["model=committee", "+model.members.bilstm.depth=3"], ["unknown key model.members.bilstm.depth"]),
        (["optim.lr=fast"], ["optim.lr=fast", "could not be converted to Float"]),
        (["optim.lr=-1"], ["optim.lr=-1.0: expected a number above 0"]),
        (["data=wsj"], ["data/wsj", "contest made"]),
        (["data=contest"], ["data.root=None: expected the contest's folder"]),
        (["model.widths=[a]"], ["model.widths=[a]"]),
        (["device=cuda:77"], ["device=cuda:77 cannot be used"]),
        (
            ["model=committee", "model.members.bilstm.width=0"],
            ["model.members.bilstm: model.width=0: expected 1 or more"],
        ),
        (["optim.lr=["], ["cannot read optim.lr=["]),
        (["trackers=[mlflow]"], ["trackers=mlflow: expected", "tensorboard", "wandb"]),
        (["train.resume=nowhere/last.pt"], ["nowhere/last.pt: there is no such checkpoint"]),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(
    tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_one_line(run_script(tmp_path, "train.py", *arguments), "train.py: ", *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (SCRIPTS.parent / "conf/model").iterdir()))
def test_every_model_of_conf_is_composed(tmp_path: Path, name: str) -> None:
    done = run_script(tmp_path, "train.py", f"model={name}", "--cfg", "job", "--package", "model")
    assert done.returncode == 0, done.stderr
    assert f"name: {name}" in done.stdout
    unknown = run_script(tmp_path, "train.py", f"model={name}", "model.depth=3")
    assert_one_line(unknown, "unknown key model.depth; there are name, context")


def test_a_mistake_in_the_files_is_one_line_and_leaves_no_run(tmp_path: Path, contest_folder: Path) -> None:
    labels = list(np.load(contest_folder / "dev_labels.npy", allow_pickle=True))
    labels[1] = labels[1][:-1]
    write_utterances(contest_folder / "dev_labels.npy", labels)
    done = run_script(tmp_path, "train.py", "data=contest", f"data.root={contest_folder}")
    assert_one_line(done, "train.py: dev_labels.npy, utterance 1:", "frames but", "labels")
    assert not (tmp_path / "runs").exists()


def test_a_traceback_is_there_for_who_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = run_script(tmp_path, "train.py", "optim.lr=-1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_predict_and_evaluate_name_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    assert_one_line(run_script(tmp_path, "predict.py"), "predict.py: checkpoint=: expected the path")
    (tmp_path / "x.pt").write_text("hello")
    done = run_script(tmp_path, "evaluate.py", "checkpoint=x.pt")
    assert_one_line(done, "evaluate.py: x.pt is no checkpoint")


def test_a_submission_from_anywhere_is_checked(tmp_path: Path, contest_folder: Path) -> None:
    csv = tmp_path / "mine.csv"
    csv.write_text("id,label\n0,5\n1,6\n")
    done = run_script(tmp_path, "check_submission.py", str(csv))
    assert (done.returncode, done.stdout) == (0, f"{csv}: 2 rows, accepted\n")
    done = run_script(tmp_path, "check_submission.py", str(csv), "--classes", "6")
    assert_one_line(done, "check_submission.py: mine.csv, line 3: expected a label of 0 to 5, got label '6'")
    done = run_script(tmp_path, "check_submission.py", str(csv), "--root", str(contest_folder))
    assert_one_line(done, "mine.csv: 2 rows, expected one for each of")


def test_recordings_with_alignments_can_be_trained_on(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for speaker in "abcd":
        (tmp_path / "speech" / speaker).mkdir(parents=True)
        for utterance in range(2):
            path = tmp_path / "speech" / speaker / f"{utterance}.wav"
            soundfile.write(path, generator.normal(0, 1000, 16000).astype(np.int16), 16000)
            path.with_suffix(".lab").write_text("1000000 3000000 bcl\n3000000 7000000 IY1\n")
    assert_one_line(run_script(tmp_path, "prepare_audio.py"), "audio=None: expected a folder of recordings")
    done = run_script(tmp_path, "prepare_audio.py", "audio=speech")
    assert_one_line(done, "prepare_audio.py: speech/", "0.wav: unknown phoneme 'bcl'", "phonemes=[bcl:AH]")
    assert list((tmp_path / "data").iterdir()) == []
    done = run_script(tmp_path, "prepare_audio.py", "audio=speech", "phonemes=[bcl:B]")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "train: 2 speakers, 4 utterances, 400 frames"
    command = done.stdout.splitlines()[-1].split("train.py ")[1].split()
    quick = ["model.widths=[8]", "model.context=1", "train.epochs=1", "train.batch_size=100", "decode=argmax"]
    done = run_script(tmp_path, "train.py", *command, *quick, "name=mine", "device=cpu")
    assert done.returncode == 0, done.stderr
    assert "40 bins, 138 classes" in done.stdout
    assert len((tmp_path / "submissions" / "mine.csv").read_text().splitlines()) == 201


def test_a_sweep_goes_on_after_a_job_that_fails_and_says_so(tmp_path: Path, contest_folder: Path) -> None:
    quick = ["model.widths=[8]", "model.context=1", "train.epochs=1", "train.batch_size=16", "decode=argmax"]
    files = ["data=contest", f"data.root={contest_folder}", "data.num_classes=6", "device=cpu"]
    done = run_script(tmp_path, "train.py", "-m", *files, *quick, "name=a,b/c,d")
    assert_one_line(done, "train.py: name=b/c: expected the name of a folder below runs")
    assert sorted(path.stem for path in (tmp_path / "submissions").iterdir()) == ["a", "d"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "d", "multirun.yaml"]


def test_of_several_processes_the_first_says_why_a_job_of_a_sweep_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, lines in (("0", 2), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        done = run_script(tmp_path, "train.py", "-m", "optim.lr=-1,-2")
        assert done.returncode == 1
        assert done.stderr.count("expected a number above 0") == len(done.stderr.splitlines()) == lines


def test_an_override_that_cannot_be_read_is_shown(tmp_path: Path) -> None:
    done = run_script(tmp_path, "train.py", "data.root=my speech (1)")
    assert_one_line(done, "train.py: cannot read data.root=my speech (1); what is no plain word needs quotes")
    done = run_script(tmp_path, "predict.py", "checkpoint=a.pt", "decode.gaussians=0")
    assert_one_line(done, "predict.py: decode.KEY=VALUE needs decode=NAME beside it")


def test_a_random_search_draws_by_key_and_seed(tmp_path: Path) -> None:
    def drawn(seed: int) -> tuple[float, float, float]:
        drawing = ["optim.lr=${log_uniform:1e-4,1e-2}", *(f"{key}=${{uniform:0,0.5}}" for key in keys)]
        done = run_script(tmp_path, "train.py", f"seed={seed}", *drawing, "--cfg", "job", "--resolve")
        config = OmegaConf.create(done.stdout)
        return config.optim.lr, config.augment.speed, config.augment.warp

    keys = ["augment.speed", "augment.warp"]
    rate, speed, warp = first = drawn(1)
    assert 1e-4 <= rate <= 1e-2
    assert speed != warp
    assert max(speed, warp) <= 0.5
    assert drawn(1) == first
    assert not set(drawn(2)) & set(first)


def test_what_a_random_search_draws_is_spread_evenly() -> None:
    register_draws()
    config = OmegaConf.create({"rate": "${log_uniform:1e-4,1e-2}", "share": "${uniform:0,0.5}", "seed": 0})
    rates, shares = [], []
    for seed in range(400):
        config.seed = seed
        rates.append(config.rate)
        shares.append(config.share)
    assert np.mean(np.array(rates) < 1e-3) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(shares) < 0.25) == pytest.approx(0.5, abs=0.1)
    assert abs(np.corrcoef(np.log(rates), shares)[0, 1]) < 0.2
    assert 1e-4 <= min(rates) < max(rates) <= 1e-2
