"""Models that score samples: their cross-entropy, and features to compare distributions on.

Shapes: N sequences, B of them at a time, L tokens, D features.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from sweeper.errors import ConfigError, MissingPackage
from sweeper.families.base import AbstractFamily
from sweeper.models.load import Model
from sweeper.networks.backbone import Backbone, BackboneDenoiser

BATCH_SEQUENCES = 64

AsText = Callable[[np.ndarray], str]
"""One sequence of own tokens as text."""


@dataclass(frozen=True)
class Judged:
    """What a judge says of sequences."""

    nats_N: np.ndarray
    """−log p of what follows the prefix, per sequence, float64."""
    tokens: int
    """Of the judge, that were scored."""
    features_ND: np.ndarray
    """Float64; the mean of the last hidden states over what was scored."""


class Judge(Interface):
    """A model that scores samples."""

    @property
    def name(self) -> str:
        """As the column `judge` has it."""

    @property
    def revision(self) -> str:
        """A hash of the weights."""

    def judge(self, ids_NL: Tensor, n_prefix: int) -> Judged:
        """Score sequences of own tokens, what follows the first `n_prefix`."""


def require_another(judge: Judge, source_identity: str) -> None:
    """Raise ConfigError where a model would judge its own samples."""
    if source_identity == judge.revision:
        raise ConfigError(
            f"{judge.name} would judge its own samples, which flatters them; expected another "
            "model: judge these by one of another size or seed, or by a model given as a path"
        )


@dataclass(frozen=True)
class NetworkJudge:
    """A network of ours that has an exact likelihood: `ar`."""

    name: str
    revision: str
    family: AbstractFamily
    denoiser: BackboneDenoiser
    device: torch.device

    def __post_init__(self) -> None:
        if not self.family.is_exact:
            raise ConfigError(
                f"{self.name} cannot judge: its family gives a bound, not a likelihood; expected "
                "an ar model"
            )

    @torch.no_grad()
    def judge(self, ids_NL: Tensor, n_prefix: int) -> Judged:
        """Score sequences; longer ones than it was trained on are scored all the same."""
        nats, features = [], []
        for ids_BL in torch.split(ids_NL, BATCH_SEQUENCES):
            batch = self.family.noisy_batch(ids_BL.to(self.device), torch.Generator())
            with hidden_states(self.denoiser.backbone) as hidden:
                nll_BL = self.family.loss(self.denoiser, batch)
            nats.append(nll_BL[:, n_prefix:].double().sum(dim=1).cpu())
            features.append(hidden[0][:, n_prefix:].double().mean(dim=1).cpu())
        n_new = ids_NL.shape[1] - n_prefix
        return Judged(torch.cat(nats).numpy(), len(ids_NL) * n_new, torch.cat(features).numpy())


def network_judge(model: Model) -> NetworkJudge:
    """A loaded model as a judge; raises ConfigError if its family has no exact likelihood."""
    config = model.config
    return NetworkJudge(
        f"{config.label} {config.trial_id} at step {config.step}",
        config.weights_sha256[:12],
        model.family,
        model.network,
        model.network.backbone.embedding.device,
    )


@contextlib.contextmanager
def hidden_states(backbone: Backbone) -> Iterator[list[Tensor]]:
    """A list that gets what each call within the context gives to the head, (B, L, D)."""
    seen: list[Tensor] = []
    hook = backbone.final.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    try:
        yield seen
    finally:
        hook.remove()


@dataclass(frozen=True)
class HuggingFaceJudge:
    """A causal language model of the `transformers` library, from a local folder.

    It reads samples as text in tokens of its own; nats are per sequence, so that measures per own
    token stay comparable.
    """

    name: str
    revision: str
    model: Any
    tokenizer: Any
    as_text: AsText
    device: torch.device

    @torch.no_grad()
    def judge(self, ids_NL: Tensor, n_prefix: int) -> Judged:
        """Score the text of sequences, each alone: lengths in its tokens differ."""
        nats, features, n_tokens = [], [], 0
        for ids_L in ids_NL.numpy():
            given, scored = (
                self.tokenizer.encode(self.as_text(part), add_special_tokens=False)
                for part in (ids_L[:n_prefix], ids_L[n_prefix:])
            )
            starts = [i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if i]
            # Without a start token the first token cannot be scored.
            whole = torch.tensor([[*starts[:1], *given, *scored]], device=self.device)
            n_scored = min(len(scored), whole.shape[1] - 1)
            out = self.model(whole, output_hidden_states=True)
            log_p_LV = out.logits[0, :-1].double().log_softmax(dim=-1)
            nll_L = -log_p_LV.gather(1, whole[0, 1:, None])[:, 0]
            nats.append(nll_L[len(nll_L) - n_scored :].sum().item())
            hidden_LD = out.hidden_states[-1][0, -max(len(scored), 1) :].double()
            features.append(hidden_LD.mean(dim=0).cpu().numpy())
            n_tokens += n_scored
        return Judged(np.array(nats), n_tokens, np.stack(features))


def load_hugging_face_judge(
    folder: Path, as_text: AsText, device: torch.device
) -> HuggingFaceJudge:
    """A judge from a folder with safetensors; nothing is fetched and nothing unpickled.

    Raises MissingPackage without `transformers`, and ConfigError for a folder that is no model.
    """
    try:
        import transformers  # optional
    except ImportError as error:
        raise MissingPackage(
            f"judge {str(folder)!r} needs the package transformers, which is not installed: "
            "pip install 'sweeper[judge]'"
        ) from error
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigError(
            f"judge {str(folder)!r}: no .safetensors there; expected the local folder of a Hugging "
            "Face causal language model: give its path"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"judge {str(folder)!r} cannot be loaded ({error}); expected the local folder of a "
            "Hugging Face causal language model with its tokenizer"
        ) from error
    digest = hashlib.blake2b(digest_size=6)
    for file in weights:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return HuggingFaceJudge(
        folder.name, digest.hexdigest(), model.eval().to(device), tokenizer, as_text, device
    )
