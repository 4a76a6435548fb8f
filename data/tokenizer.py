"""Byte-pair encoding: trained with rustbpe, encoded with tiktoken, kept as readable JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import LabError

if TYPE_CHECKING:
    import numpy as np

SEPARATOR = "<|bos|>"  # opens every document; the last token of the vocabulary

# GPT-4's split pattern with at most two digits a token, as nanochat: small vocabularies
# should not spend themselves on numbers.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Text to token ids. `tokens[i]` are the bytes of token i; the separator comes after them."""

    def __init__(self, tokens: list[bytes]) -> None:
        import tiktoken

        self.tokens = tokens
        self.separator = len(tokens)
        self.encoding = tiktoken.Encoding(
            name="lab",
            pat_str=PATTERN,
            mergeable_ranks={token: index for index, token in enumerate(tokens)},
            special_tokens={SEPARATOR: self.separator},
        )

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int) -> Tokenizer:
        """Trains on `documents`. `vocab_size` counts the separator. Raises LabError on too little text."""
        import rustbpe  # type: ignore[import-untyped]

        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(iter(documents), vocab_size - 1, pattern=PATTERN)
        ranks = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
        if len(ranks) != vocab_size - 1:
            raise LabError(
                f"params.yaml: data.vocab_size is {vocab_size}, but the corpus yields only "
                f"{len(ranks) + 1} tokens; lower it or use more text"
            )
        return cls([bytes(token) for token, _ in ranks])

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads what `save` wrote."""
        return cls([base64.b64decode(token) for token in json.loads(path.read_text())["tokens"]])

    def save(self, path: Path) -> None:
        """Writes the vocabulary as JSON: tokens in order of their ids, base64."""
        tokens = [base64.b64encode(token).decode() for token in self.tokens]
        path.write_text(json.dumps({"separator": SEPARATOR, "pattern": PATTERN, "tokens": tokens}, indent=0))

    @property
    def vocab_size(self) -> int:
        """Number of ids, the separator included."""
        return len(self.tokens) + 1

    def encode(self, documents: list[str], threads: int = 1) -> list[list[int]]:
        """Token ids of each document, opened by the separator."""
        encoded = self.encoding.encode_ordinary_batch(documents, num_threads=threads)
        return [[self.separator, *ids] for ids in encoded]

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes per token id, int32 (vocab_size,). 0 for the separator, which is not text."""
        import numpy as np

        return np.array([*(len(token) for token in self.tokens), 0], dtype=np.int32)
