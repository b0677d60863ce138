"""Maps that models draw, with small models of random weights in the formats of the real ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from training.sampling.control.ade20k import class_colors
from training.sampling.control.kinds import MapMaker


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)


def test_the_colors_of_ade20k():
    colors = class_colors()
    assert len(colors) == 150
    assert (colors[0], colors[1], colors[149]) == (
        (120, 120, 120),
        (180, 120, 120),
        (92, 0, 255),
    )  # wall, building, flag


def test_depth_is_black_where_it_is_far_and_white_where_it_is_near(tmp_path, image):
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    model = DPTForDepthEstimation(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "depth")
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "depth")
    found = MapMaker.find("depth", Workspace(tmp_path), "depth").make(image, 64)
    assert found.shape == (64, 96, 3) and (found == found[..., :1]).all()
    assert found.max() > 200 and found.min() < 60  # the padding at the side, cut off again, may be beyond


def test_a_segmentation_has_the_colors_of_its_classes(tmp_path, image):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=150, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "segments")
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "segments")
    found = MapMaker.find("segmentation", Workspace(tmp_path), "segments").make(image, 64)
    assert found.shape == (64, 96, 3)
    assert {tuple(color) for color in found.reshape(-1, 3).tolist()} <= set(class_colors())


def test_what_a_detector_prints_stays_off_the_terminal(tmp_path, image, monkeypatch, capsys):
    from training.sampling.control import detectors

    def load(kind, folder):
        print("Loading base model ()...Done.")
        return lambda image, **how: image

    monkeypatch.setattr(detectors, "_detector", load)
    detectors.draw("normal", image, tmp_path, (0.0, 0.0))
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_detectors_of_controlnet_aux(tmp_path, image):
    """Slow: importing the package alone takes many seconds."""
    from controlnet_aux.hed import ControlNetHED_Apache2
    from controlnet_aux.mlsd import MobileV2_MLSD_Large

    torch.save(ControlNetHED_Apache2().state_dict(), tmp_path / "ControlNetHED.pth")
    torch.save(MobileV2_MLSD_Large().state_dict(), tmp_path / "mlsd_large_512_fp32.pth")
    for kind in ("hed", "mlsd"):
        found = MapMaker.find(kind, Workspace(tmp_path), ".").make(image, 64)
        assert found.shape == (64, 96, 3) and found.dtype == np.uint8
    (tmp_path / "ControlNetHED.pth").write_bytes(b"damaged")
    from training.sampling.control import detectors

    detectors._detector.cache_clear()
    with pytest.raises(PrepError, match="hf download --force-download"):
        MapMaker.find("hed", Workspace(tmp_path), ".").make(image, 64)
