"""The training of the small model: the schedule, and that an interruption changes no bit."""

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from waterlevel.reference.errors import BadInput  # noqa: E402
from waterlevel.validate.models import training_steps as training  # noqa: E402

TEXT = np.random.default_rng(0).integers(32, 127, 5000, np.uint8).tobytes()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(training, "LENGTH", 16)
    monkeypatch.setattr(training, "BATCH", 2)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)


def run(steps, checkpoint=None, stop=None):
    found = training.Training.start(steps)
    if checkpoint and checkpoint.exists():
        found.restore(checkpoint)
    for _ in training.train(found, TEXT, compiled=False):
        if checkpoint:
            found.save(checkpoint)
        if found.done == stop:
            break
    return found


def digest(found):
    return {name: tensor.numpy().tobytes() for name, tensor in found.model.state_dict().items()}


def test_an_interruption_changes_no_bit(tmp_path):
    checkpoint = tmp_path / "training"
    run(10, checkpoint, stop=4)
    resumed = run(10, checkpoint)
    whole = run(10)
    assert digest(resumed) == digest(whole)
    assert resumed.losses == whole.losses


def test_the_number_of_steps_is_free_before_the_descent(tmp_path):
    checkpoint = tmp_path / "training"
    run(100, checkpoint, stop=4)
    assert digest(run(8, checkpoint)) == digest(run(8))


def test_but_not_after_it_has_begun(tmp_path):
    checkpoint = tmp_path / "training"
    run(8, checkpoint)
    with pytest.raises(BadInput, match="8 of 8 steps are done"):
        run(20, checkpoint)


def test_bits_per_byte_of_a_model_that_knows_nothing():
    model = training.Training.start(1).model
    with torch.no_grad():
        model.model.norm.weight.zero_()  # all logits are 0
    assert training.bits_per_byte(model, TEXT) == pytest.approx(8, abs=1e-6)


def saved(thing):
    content = io.BytesIO()
    torch.save(thing, content)
    return content.getvalue()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", saved([1])])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    checkpoint = tmp_path / "training"
    checkpoint.write_bytes(content)
    with pytest.raises(BadInput, match="is no checkpoint of a training"):
        run(8, checkpoint)
