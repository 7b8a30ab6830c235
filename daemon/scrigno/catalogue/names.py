# SPDX-License-Identifier: Apache-2.0
"""Folding of texts, so that é = e, Ａ = a, ｱ = ア and ß = ss when they are compared.

Person name matching may be blind to case and accents (PS3.4 C.2.2.2.1); everything here is a
pure function of the text.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from scrigno.core.attributes import PersonName

# Longer keys than this do not help to find or sort anything; a hostile value ends here.
KEY_LENGTH: Final = 120
WORD_LENGTH: Final = 64
WORDS_AT_MOST: Final = 64

# The voiced marks of kana are combining characters but not accents: ガ is not カ.
_VOICED: Final = frozenset("\u3099\u309a")
_SPACES: Final = re.compile(r"[\s^]+")
_WORD: Final = re.compile(r"[^\W_]+")
# Han, hiragana, katakana, Hangul: written without spaces, so a word may begin at and behind each
_UNSPACED: Final = re.compile(
    r"[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7a3]"
)
# Begins every word that stands for a piece of a patient's name: no user's word begins so.
_PIECE: Final = "\ue000"
_SHORTEST_PIECE: Final = 3  # of a spaced script; shorter ones are in every other name


@functools.lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Return `text` for comparing: no case, accents, width; `^` and spaces are one space."""
    if text.isascii():
        plain = text.casefold()
    else:
        # casefold after NFKD and NFKD again: folding can produce new composed characters
        opened = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        plain = unicodedata.normalize(
            "NFC",
            "".join(c for c in opened if not unicodedata.combining(c) or c in _VOICED),
        )
    return _SPACES.sub(" ", plain).strip()


def key(text: str) -> str:
    """Return the folded text at the length that is kept and indexed."""
    return fold(text)[:KEY_LENGTH].rstrip()


def name_keys(name: PersonName) -> tuple[str, str, str]:
    """Return what a name is found by: its first group that is not empty, the second, the third.

    The first also is what lists are sorted by, so that a name with only ideographs sorts too.
    """
    alphabetic, ideographic, phonetic = (
        key(name.alphabetic),
        key(name.ideographic),
        key(name.phonetic),
    )
    return alphabetic or ideographic or phonetic, ideographic, phonetic


def words(texts: Iterable[str]) -> list[str]:
    """Return the words of `texts` as the search keeps them, each once.

    A run of characters that is written without spaces yields each of its endings too, so that a
    prefix search finds what stands inside it. Hiragana and katakana are the same, a Hangul
    syllable is spelled out in letters so that it is found while it is still being typed.
    """
    found: dict[str, None] = {}
    for text in texts:
        for run in _WORD.findall(fold(text)):
            for word in _endings(run[:WORD_LENGTH]):
                found.setdefault(_spelled(word))
                if len(found) >= WORDS_AT_MOST:
                    return list(found)
    return list(found)


def search_words(text: str) -> list[str]:
    """Return the words that a user typed, each of which must begin a word of what is found."""
    return [_spelled(run[:WORD_LENGTH]) for run in _WORD.findall(fold(text))][:16]


def name_pieces(name: PersonName) -> list[str]:
    """Return words by which any piece of a name is found: all endings of all of its words."""
    found: dict[str, None] = {}
    for group in (name.alphabetic, name.ideographic, name.phonetic):
        for run in _WORD.findall(fold(group)):
            for place in range(min(len(run), WORD_LENGTH)):
                ending = run[place : place + WORD_LENGTH]
                if _is_piece(ending):
                    found.setdefault(_PIECE + _spelled(ending))
            if len(found) >= 2 * WORDS_AT_MOST:
                return list(found)
    return list(found)


def searched_piece(pattern: str) -> str:
    """Return the word that finds the names in which the longest literal piece of a pattern is.

    Empty when the pattern has no piece that is long enough.
    """
    runs = [run for run in _WORD.findall(fold(pattern)) if _is_piece(run)]
    return _PIECE + _spelled(max(runs, key=len)[:WORD_LENGTH]) if runs else ""


def _is_piece(text: str) -> bool:
    return len(text) >= _SHORTEST_PIECE or _UNSPACED.match(text) is not None


def _endings(run: str) -> Iterable[str]:
    yield run
    for place in range(1, len(run)):
        if _UNSPACED.match(run[place]) or _UNSPACED.match(run[place - 1]):
            yield run[place:]


def _spelled(word: str) -> str:
    if word.isascii():
        return word
    letters = []
    for c in word:
        if "\u30a1" <= c <= "\u30f6":  # katakana to hiragana
            letters.append(chr(ord(c) - 0x60))
        elif "\uac00" <= c <= "\ud7a3":  # Hangul syllable to its letters
            letters.append(unicodedata.normalize("NFD", c))
        else:
            letters.append(c)
    return "".join(letters)
