"""A trained fold as a predictor, without writing an artifact: what the live scorer needs to ask it."""

from safetensors.torch import save

from models.artifact import PARTS, Artifact
from models.backends.torch_eager import TorchPredictor
from models.predictor import Card
from training.loop import Trained


def as_predictor(trained: Trained) -> TorchPredictor:
    """The torch reference backend over the trained network."""
    network = trained.network.eval().cpu()
    architecture = network.architecture
    card = Card(
        model_hash="",
        encoder_hashes={part: part for part in PARTS[:3]},
        conditions=architecture.conditions,
        width=architecture.width,
        thresholds=trained.thresholds,
        conformal=trained.conformal,
    )
    contents = {
        "model.safetensors": save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}),
        "tokenizer.json": trained.tokenizer.to_str().encode(),
    }
    return TorchPredictor(Artifact(card, trained.calibration, architecture.to_json(), contents, {}))
