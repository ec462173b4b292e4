"""The ablation: variants that differ in one thing, trainings that are not repeated, a table with the differences."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from humanseg.vision.arrays import AlphaBatch, Batch, Size
from support.photos import write_photo
from train import ablation
from train.ablation import table, variants
from train.data import find_photos, split_photos
from train.loader import SampleMaker, plan_epoch
from train.validation import stretched


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(24):
        write_photo(root, "discs", f"{number:02}", size=(64, 40), seed=number)
        write_photo(root, "rooms", f"{number:02}", size=(64, 40), person=False, seed=number)
    return root


def test_a_variant_differs_from_the_one_beside_it_in_one_setting_of_the_method() -> None:
    known = {one.name: one for one in variants(2)}
    assert [one.name for one in known.values() if not one.beside] == ["base"]
    for one in known.values():
        if not one.beside:
            continue
        other = known[one.beside]
        settings, others = asdict(one.preset), asdict(other.preset)
        differing = {key for key in settings if settings[key] != others[key]}
        flags = [one.has_teacher != other.has_teacher, one.has_backbone != other.has_backbone]
        # Synthesis is two settings: composites, and the upright photos that need one on a landscape canvas.
        assert len(differing - {"landscape_share"}) + sum(flags) == 1, one.name
        assert one.preset.epochs == 2


def test_a_stretched_photo_fills_the_canvas_and_the_answer_comes_back_in_its_own_shape(tmp_path: Path) -> None:
    seen: list[Size] = []

    def left_half(batch: Batch) -> AlphaBatch:
        seen.append(Size.of(batch[0]))
        alpha = np.zeros(batch.shape[:3], np.float32)
        alpha[:, :, : batch.shape[2] // 2] = 1.0
        return alpha

    alpha = stretched(left_half, Size(64, 32), Size(32, 64))(np.zeros((30, 100, 3), np.uint8))
    assert seen == [Size(64, 32)]
    assert alpha.shape == (30, 100)
    assert alpha[:, :48].min() > 0.95
    assert alpha[:, 52:].max() < 0.05


def test_stretched_samples_have_no_padding_at_the_scale_of_the_canvas(data: Path) -> None:
    split = split_photos(find_photos(data))
    known = {one.name: one.preset for one in variants(1)}

    def known_share(name: str) -> float:
        maker = SampleMaker(split, known[name])
        planned = plan_epoch(split, known[name], 0)
        return float(np.mean([s.known.mean() for one in planned for s in maker.samples(one, known[name].canvases)]))

    # 64x40 letterboxed on 224x128 leaves a tenth of the width empty at scale 1.
    assert known_share("stretched") > known_share("no synthesis") + 0.02 * 255


def test_the_command_trains_judges_compares_and_does_not_repeat_itself(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    names = ["no pretraining", "distilled"]
    command = ["--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--only", *names]
    assert ablation.main(command) == 0
    first = capsys.readouterr()
    assert "`distilled` is left out: it needs --teacher" in first.err
    (row,) = json.loads((tmp_path / "report.json").read_text())["trainings"]
    assert row["name"] == "no pretraining"
    assert {"discs", "mean over sources"} <= set(row["scores"])
    assert 0 < row["scores"]["mean over sources"]["mean_iou"] < 1
    assert row["scores"]["mean over sources"]["mean_iou"] == row["scores"]["discs"]["mean_iou"]

    log = tmp_path / "no-pretraining-1" / "log.csv"
    trained = log.read_text()
    assert ablation.main(command) == 0
    assert log.read_text() == trained, "it was trained once"
    assert (tmp_path / "report.md").read_text() in capsys.readouterr().out


def test_the_table_says_by_how_much_a_variant_lies_above_the_one_beside_it() -> None:
    base, other = variants(1)[:2]

    def scores(iou: float) -> dict[str, dict[str, float]]:
        return {"mean over sources": {"mean_iou": iou, "boundary_f": iou / 2, "alarm_share": 0.25}}

    lines = table([(base, 1, scores(0.9)), (base, 2, scores(0.8)), (other, 2, scores(0.75))]).splitlines()
    assert lines[2] == "| base | 1 |  |  | 0.9000 | 0.450 | 25% |  |  |"
    assert "| 0.7500 | 0.375 | 25% | -0.0500 | -0.025 |" in lines[4], "against the base of its own seed"


def test_what_cannot_be_trained_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("train.ablation: ")
