"""`corpus` in a sweep file: what to read."""

from typing import Annotated

from pydantic import Field, model_validator

from sweeper.sweepfile.fields import MAX_SEQ_LEN, Count, Number, Part, Tokens, wrong
from sweeper.trials.text_options import AS_BYTES, KEYS, TEXT_OPTION_KEYS, TextOptions
from sweeper.trials.trial import MAX_VOCAB_SIZE


class AssumedCorpus(Part):
    """What a corpus is taken to be by `sweeper plan` on a machine that does not have it."""

    vocab_size: Annotated[Count, Field(ge=2, le=MAX_VOCAB_SIZE)]
    """Token ids, special ones included."""
    train_tokens: Tokens
    """To train on."""
    validation_tokens: Tokens
    """Held out."""
    bytes_per_token: Annotated[Number, Field(gt=0)] | None = None
    """Bytes of text per token; None where there is no text, or nobody knows."""


class CorpusChoice(Part):
    """What to read."""

    source: Annotated[str, Field(min_length=1)]
    """`stdlib`, `path:…`, `tokens:…`, `hf:…`, `synthetic:…`; see `data/sources.py`."""
    seq_len: Annotated[Count, Field(ge=2, le=MAX_SEQ_LEN)]
    """Tokens per sequence, in training and evaluation."""
    tokenizer: Annotated[str, Field(min_length=1)] = AS_BYTES.tokenizer
    """`bytes`, the path of a Hugging Face `tokenizer.json`, or a name on the hub."""
    text_column: Annotated[str, Field(min_length=1)] = AS_BYTES.text_column
    """Column of JSONL and Parquet files, or of a dataset, that holds the documents."""
    max_tokens: Tokens = AS_BYTES.max_tokens
    """Where to stop reading an `hf:` dataset."""
    assume: AssumedCorpus | None = None
    """Checked against the corpus where that can be read."""

    @model_validator(mode="after")
    def _keys_of_the_source(self) -> "CorpusChoice":
        known = KEYS.get(self.source.partition(":")[0], TEXT_OPTION_KEYS)
        for key in TEXT_OPTION_KEYS:
            if key in self.model_fields_set and key not in known:
                takers = " or ".join(f"{kind}:" for kind, keys in KEYS.items() if key in keys)
                raise wrong(f"expected it for {takers} alone: leave it out", key, at_key=True)
        return self

    @property
    def is_costly_to_read(self) -> bool:
        """Whether planning, too, should keep the tokens once they are made."""
        return self.source.startswith("hf:") or self.tokenizer != AS_BYTES.tokenizer

    @property
    def reading(self) -> TextOptions:
        """How the source is read."""
        return TextOptions(**{key: getattr(self, key) for key in TEXT_OPTION_KEYS})
