"""A run on drawn photos: it learns, resumes exactly, refuses other settings, and exports what it has learned."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engines.registry import open_runner
from humanseg.vision.arrays import Size
from humanseg.vision.decode import picture_size
from support.photos import write_boxes, write_photo
from train import evaluate, export, preview, train
from train.arguments import chosen_preset, parse_arguments
from train.boxes import find_boxed, label_boxes, segmented_by
from train.checkpoint import CheckpointError, load_network, read_checkpoint, save_weights
from train.data import Split, find_photos, split_photos
from train.loader import SampleMaker, plan_epoch
from train.presets import PRESETS, Canvases, Preset
from train.scenes import PLAIN, RICH
from train.train import Run, learning_rate_factor

CANVASES = Canvases(Size(64, 32), Size(32, 64))
TINY = replace(
    PRESETS["medium"], epochs=2, batch=4, canvases=CANVASES, small_canvases=CANVASES, ema_decay=0.5, validate_every=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for number in range(24):
        size = (64, 40) if number % 2 else (40, 64)
        write_photo(root, "discs", f"{number:02}", size=size, seed=number)
        write_photo(root, "rooms", f"{number:02}", size=(64, 40), person=False, seed=number)
    return root


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """So small a network gains nothing from more, and the machine may be busy."""
    torch.set_num_threads(1)


def split_of(data: Path) -> Split:
    return split_photos(find_photos(data))


def start(data: Path, out: Path, preset: Preset = TINY) -> Run:
    out.mkdir(exist_ok=True)
    return Run(preset, split_of(data), out, torch.device("cpu"), "none", 2)


def test_an_epoch_shows_every_photo_once_and_depends_on_the_seed_alone(data: Path) -> None:
    split, preset = split_of(data), replace(TINY, batch=1, negative_share=0.0)
    first, again, second = (plan_epoch(split, preset, epoch) for epoch in (0, 0, 1))
    assert first == again
    assert first != second
    names = sorted(photo.name for planned in first for photo in planned.photos)
    assert names == sorted(photo.name for photo in split.train)
    one, other = (SampleMaker(split, preset).batch(first[0], CANVASES) for _ in range(2))
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.alpha, other.alpha)


def test_people_are_cut_out_of_photos_of_the_named_sources_only(tmp_path: Path) -> None:
    for number in range(12):
        for source in ("careful", "coarse"):
            write_photo(tmp_path, source, f"{number:02}", size=(128, 80), seed=number)
        write_photo(tmp_path, "rooms", f"{number:02}", size=(64, 40), person=False, seed=99)
    split = split_of(tmp_path)
    scenes = replace(PLAIN, sources=("careful",), several_share=1.0)
    preset = replace(TINY, batch=1, composite_share=1.0, negative_share=0.0, scenes=scenes)
    maker = SampleMaker(split, preset)
    padded: dict[str, list[bool]] = {"careful": [], "coarse": []}
    for planned in plan_epoch(split, preset, 0):
        (sample,) = maker.samples(planned, CANVASES)
        padded[planned.photos[0].source].append(not sample.known.all())
    # A composite fills its canvas; a photo that was turned or shrunk does not.
    assert not any(padded["careful"])
    assert sum(padded["coarse"]) > 3


def test_the_command_line_changes_what_it_names_and_nothing_else() -> None:
    base = ["--model", "medium", "--data", "x", "--out", "y"]
    assert chosen_preset(parse_arguments(base)) == PRESETS["medium"]
    chosen = chosen_preset(
        parse_arguments([*base, "--epochs", "3", "--boundary-f", "0.5", "--scenes", "rich", "--teacher-weight", "0"])
    )
    medium = PRESETS["medium"]
    loss = replace(medium.loss, boundary_f=0.5)
    assert chosen == replace(medium, epochs=3, loss=loss, scenes=RICH, teacher_weight=0.0)


def test_photos_with_boxes_are_learned_from_but_neither_pasted_nor_judged_by(data: Path, tmp_path: Path) -> None:
    split = split_of(data)
    write_boxes(tmp_path, {f"{number:02}": [(12, 8, 40, 36)] for number in range(12)})
    filled = label_boxes(
        find_boxed(tmp_path), segmented_by(lambda picture: np.ones(picture.shape[:2], np.float32)), tmp_path / "m"
    )
    with_them = replace(split, train_boxed=tuple(filled))
    preset = replace(TINY, batch=1, box_share=0.25, composite_share=1.0, landscape_share=0.0)
    planned = plan_epoch(with_them, preset, 0)
    shown = [one for one in planned if one.photos[0].boxes]
    assert len(shown) == round(0.25 * len(split.train))
    assert not {photo for one in planned for photo in one.photos} & set(split.validation)
    assert plan_epoch(split, preset, 0) == plan_epoch(replace(split, train_boxed=()), preset, 0)
    maker = SampleMaker(with_them, preset)
    for one in shown:
        (sample,) = maker.samples(one, CANVASES)
        # The band round the box is void; a composite would have none.
        assert not sample.known.all()


def test_the_preview_shows_what_training_makes(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheets" / "samples.png"
    assert preview.main(["--data", str(data), "--out", str(out), "--count", "6"]) == 0
    assert picture_size(out.read_bytes()).height > 2 * 200
    assert preview.main(["--data", str(tmp_path / "none"), "--out", str(out)]) == 1


def test_no_validation_photo_is_learned_from(data: Path) -> None:
    split = split_of(data)
    shown = {photo for epoch in range(5) for planned in plan_epoch(split, TINY, epoch) for photo in planned.photos}
    assert shown
    assert not shown & {*split.validation, *split.validation_backgrounds}


def test_a_run_that_was_interrupted_ends_with_the_very_same_weights(data: Path, tmp_path: Path) -> None:
    whole = start(data, tmp_path / "whole")
    whole.run()
    broken = start(data, tmp_path / "broken")
    first_epoch = broken.epoch_starts[1]
    planned = plan_epoch(broken.split, TINY, 0)
    # Stopped two steps into the first epoch, as Ctrl-C would.
    broken._run_epoch(0, planned[:2], 2)
    assert broken.state.step == 2 < first_epoch
    resumed = start(data, tmp_path / "broken")
    resumed.resume()
    assert resumed.state.step == 2
    resumed.run()
    assert resumed.state.step == whole.state.step
    for name, value in whole.state.averaged.state.items():
        assert torch.equal(value, resumed.state.averaged.state[name]), name
    rows = list(csv.DictReader((tmp_path / "whole" / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (tmp_path / "whole" / "epoch_02.png").stat().st_size > 1000


def test_a_checkpoint_of_other_settings_is_refused(data: Path, tmp_path: Path) -> None:
    start(data, tmp_path / "run").save("last.pt")
    other = start(data, tmp_path / "run", replace(TINY, learning_rate=0.5))
    with pytest.raises(CheckpointError, match="learning_rate"):
        other.resume()


def test_another_cycle_begins_with_the_averaged_weights_and_its_own_schedule(data: Path, tmp_path: Path) -> None:
    first = start(data, tmp_path / "first", replace(TINY, epochs=1))
    first.run()
    begun = Run(TINY, split_of(data), tmp_path, torch.device("cpu"), None, 2, tmp_path / "first" / "best.pt")
    assert begun.state.step == 0
    assert begun.state.best_iou == 0
    saved = read_checkpoint(tmp_path / "first" / "best.pt")
    assert any(not torch.equal(saved["averaged"][name], saved["model"][name]) for name in saved["model"])
    for name, value in begun.state.model.state_dict().items():
        assert torch.equal(value, saved["averaged"][name]), name
    small = replace(TINY, model="small")
    with pytest.raises(CheckpointError, match="is of model 'medium'; --init takes one of 'small' here"):
        Run(small, split_of(data), tmp_path, torch.device("cpu"), None, 2, tmp_path / "first" / "best.pt")


def test_the_command_names_what_is_wrong_before_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo(tmp_path, "discs", "cut")
    photo = tmp_path / "discs/images/cut.jpg"
    photo.write_bytes(photo.read_bytes()[:-600])
    common = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--backbone-weights", "none"]
    assert train.main(common) == 1
    assert "discs/cut: JPEG" in capsys.readouterr().err
    write_photo(tmp_path, "discs", "cut")
    assert train.main([*common, "--boxes", str(tmp_path / "none.onnx")]) == 1
    assert "none.onnx" in capsys.readouterr().err
    assert train.main([*common, "--init", str(tmp_path / "none.pt")]) == 1
    assert "none.pt" in capsys.readouterr().err
    assert not (tmp_path / "out" / "last.pt").exists()


def test_settings_that_came_later_have_their_defaults_in_an_older_checkpoint(data: Path, tmp_path: Path) -> None:
    run = start(data, tmp_path / "run")
    run.state.step = 3
    run.save("last.pt")
    path = tmp_path / "run" / "last.pt"
    older = torch.load(path, weights_only=True)
    # As if this setting, and this part of another, had not existed then.
    del older["preset"]["teacher_weight"], older["preset"]["loss"]["band_px"]
    torch.save(older, path)
    again = start(data, tmp_path / "run")
    again.resume()
    assert again.state.step == 3
    for changed, name in ((replace(TINY, teacher_weight=2.0), "teacher_weight"),
                          (replace(TINY, loss=replace(TINY.loss, band_px=5)), "loss")):  # fmt: skip
        with pytest.raises(CheckpointError, match=name):
            start(data, tmp_path / "run", changed).resume()


def test_a_file_of_weights_alone_begins_a_run_and_cannot_be_resumed(data: Path, tmp_path: Path) -> None:
    run = start(data, tmp_path / "run", replace(TINY, epochs=1))
    run.run()
    whole, light = tmp_path / "run" / "best.pt", tmp_path / "weights" / "medium.pt"
    onnx_file = tmp_path / "medium.onnx"
    assert export.main(["--checkpoint", str(whole), "--out", str(onnx_file), "--weights-out", str(light)]) == 0
    assert light.stat().st_size < 7e6
    begun = Run(TINY, split_of(data), tmp_path, torch.device("cpu"), None, 2, light)
    saved = read_checkpoint(whole)["averaged"]
    for name, value in begun.state.model.state_dict().items():
        assert value.dtype == saved[name].dtype
        assert torch.allclose(value, saved[name], rtol=1e-3, atol=1e-4), name
    light.rename(tmp_path / "run" / "last.pt")
    with pytest.raises(CheckpointError, match="weights only"):
        begun_elsewhere = start(data, tmp_path / "run", replace(TINY, epochs=1))
        begun_elsewhere.resume()


def test_weights_beyond_half_precision_are_refused(data: Path, tmp_path: Path) -> None:
    run = start(data, tmp_path / "run")
    run.state.averaged.state["head.1.bias"].fill_(1e6)
    run.save("best.pt")
    with pytest.raises(CheckpointError, match=r"head\.1\.bias"):
        save_weights(tmp_path / "run" / "best.pt", tmp_path / "light.pt")
    assert not (tmp_path / "light.pt").exists()


def test_damaged_and_missing_checkpoints_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "last.pt"
    damaged.write_bytes(b"not a checkpoint")
    for path in (damaged, tmp_path / "none.pt"):
        with pytest.raises(CheckpointError, match=path.name):
            read_checkpoint(path)


@pytest.mark.parametrize("model", ["large", "medium", "small"])
def test_the_exported_file_serves_what_was_trained(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(data, tmp_path / "run", replace(TINY, model=model))
    run.save("best.pt")
    out = tmp_path / "model.onnx"
    assert export.main(["--checkpoint", str(tmp_path / "run/best.pt"), "--out", str(out), "--version", "9.9"]) == 0
    nodes = onnx.load(out).graph.node
    assert [node.op_type for node in nodes if "frames" in node.input] == ["Cast"]
    # Conv takes lopsided paddings itself; a Pad node costs two changes of layout.
    assert not {node.op_type for node in nodes} & {"Pad", "ReduceMax", "ReduceMin", "BatchNormalization"}
    for node in nodes:
        if node.op_type == "Resize":
            modes = {a.name: a.s for a in node.attribute}
            assert modes[b"coordinate_transformation_mode".decode()] in (b"half_pixel", b"pytorch_half_pixel")
    runner = open_runner("onnxruntime-cpu", out, max_batch=4, concurrency=1)
    assert runner.info.model.version == "9.9"
    assert runner.info.model.landscape == CANVASES.landscape
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 256, (3, 32, 64, 3), dtype=np.uint8)
    network, _ = load_network(tmp_path / "run/best.pt")
    with torch.no_grad():
        expected = export.Served(network)(torch.from_numpy(batch)).numpy()
    assert np.abs(runner.run(batch) - expected).max() < 1e-4
    assert evaluate.main(["--onnx", str(out), "--data", str(data), "--all", "--json", str(tmp_path / "iou.json")]) == 0
    assert "discs" in capsys.readouterr().out


def test_a_teacher_changes_what_is_learned_and_is_not_changed(data: Path, tmp_path: Path) -> None:
    teacher = start(data, tmp_path / "teacher")
    teacher.save("best.pt")
    small = replace(TINY, model="small", epochs=1)
    alone = start(data, tmp_path / "alone", small)
    taught = start(data, tmp_path / "taught", replace(small, teacher=str(tmp_path / "teacher/best.pt")))
    for run in (alone, taught):
        run.run()
    assert taught.teacher is not None
    for name, value in taught.teacher.state_dict().items():
        assert torch.equal(value, teacher.state.averaged.state[name]), name
    head = "head.weight"
    assert not torch.equal(alone.state.averaged.state[head], taught.state.averaged.state[head])


def test_a_graph_that_computes_something_else_is_not_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "medium.onnx"
    run = start(data, tmp_path / "run")
    served = export.Served(run.state.model.eval())
    run.save("best.pt")
    export.main(["--checkpoint", str(tmp_path / "run/best.pt"), "--out", str(out)])
    with torch.no_grad():
        for parameter in run.state.model.parameters():
            parameter.mul_(1.5)
    assert export.compare(served, out, (CANVASES.landscape,)) > export.TOLERANCE


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 1e-3
