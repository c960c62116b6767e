"""Class folders: images carry what their folder's name says, be it one attribute or several.

A folder `bald and beard` beside `bald` and `beard` holds faces with both. Read as a third class it would be trained on as neither, so its
name is read word by word, and what it may say, but does not say for certain, is unknown, which holds a face out as well.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from facegan.data.layouts import LAYOUTS, Rows
from facegan.data.lists import bounded, checked_columns, several
from facegan.data.sources import Source
from facegan.errors import FaceganError
from facegan.files import quoted

_SPLITS = re.compile(r"(?i)(train(ing)?|val(id(ation)?)?|dev|test(ing)?|eval(uation)?|holdout)([-_ ]?(set|data|images?|split|\d+))?")
_FILLING = frozenset("a also alone and both but die face faces image images just n of only or people person photo photos picture "
                     "pictures plus portrait portraits the und und with y".split())  # fmt: skip
_NOT = frozenset("kein keine neither never no non nor not ohne un without".split())
_STEM = 3  # letters, at least, that the forms of a word share
_LONGEST = 40  # letters of words written together
_BETWEEN = frozenset(("and", "no", "not", "plus", "with", "without"))  # in words written together


def class_folders(source: Source, images: Sequence[str]) -> Rows:
    """An image carries what its folder says, and what others say only if the same content is there too: file names tell
    nothing, as cameras number alike. Folders called train, val or test are looked through."""
    root = _common(images)
    ids = {name: name[len(root) + 1 :] if root else name for name in images}
    inside, notes = _without_splits(ids)
    stray = [name for name in images if "/" not in inside[name]]
    if stray:
        raise FaceganError(
            f"data {source.path}: nothing tells the attributes of {len(stray)} images such as {quoted(stray[0])}: there is no "
            f"attribute file, and they stand beside, not in, class folders; {LAYOUTS}"
        )
    folders = {name: posixpath.dirname(inside[name]) for name in images}
    columns = checked_columns(f"data {source.path}", sorted({folder.split("/")[0] for folder in folders.values()}))
    bounded(f"data {source.path}: as class folders", len(images), len(columns))
    said, remarks = told(sorted(set(folders.values())), columns)
    content = _contents(source, images)
    first: dict[str, str] = {}  # content -> the file that stands for it
    for name in images:
        first.setdefault(content[name], name)
    members = list(first.values())
    row = {name: i for i, name in enumerate(members)}
    values = np.zeros((len(members), len(columns)), np.float32)
    for name in images:
        i = row[first[content[name]]]
        values[i] = _either(values[i], said[folders[name]])
    return Rows([ids[name] for name in members], columns, values, members, [""] * len(members), [*notes, *remarks], images)


def _either(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kleene's or: carried if either says so, else unknown if either is."""
    return np.where((one == 1) | (other == 1), np.float32(1), one + other)


def _common(names: Iterable[str]) -> str:
    return posixpath.commonpath([posixpath.dirname(name) for name in names])


def _without_splits(ids: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The ids below the folders of splits, where these are all and hold folders, and what is to be said of it."""
    tops = sorted({id.split("/")[0] for id in ids.values()})
    if not all(_SPLITS.fullmatch(top) for top in tops) or all(id.count("/") < 2 for id in ids.values()):
        return dict(ids), []
    inside = {name: id.partition("/")[2] for name, id in ids.items()}
    common = _common(inside.values())
    inside = {name: id[len(common) + 1 :] if common else id for name, id in inside.items()}
    return inside, [f"{several(tops)} are read as parts of one data set, whose classes are the folders in them"]


# --- What folders' names say ------------------------------------------------------------------------------------------


def told(folders: Sequence[str], columns: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """What each folder's path `CLASS/...` says of each column, the classes: float32 [C] of 1, 0 and NaN (may be); and notes.

    A folder carries its own class, and every class whose words are all among its own (`beard, bald`), if these are two or more, or
    explain all of its words (`only bald`). What may be meant is unknown: one class among other words (`bald with stubble`), or a
    form of a class's word (`bald and bearded`). `no`, `not`, `without` and `-less` turn the word that follows.
    """
    whole = frozenset(column.casefold() for column in columns)
    known = frozenset(word for column in columns for word in _words(column, whole) if not word.startswith("!")) | whole
    names = [_words(column, known) for column in columns]
    forms: dict[str, list[str]] = defaultdict(list)  # first letters -> words
    for word in sorted(known):
        forms[word[:_STEM]].append(word)
    turned = frozenset(f"!{word}" for word in known)
    position = {column: j for j, column in enumerate(columns)}
    holders: dict[str, list[int]] = defaultdict(list)  # word -> the columns whose names have it
    for j, words in enumerate(names):
        for word in words:
            holders[word].append(j)
    said: dict[str, np.ndarray] = {}
    joint: list[str] = []
    unclear: list[str] = []
    for folder in folders:
        own, words = position[folder.split("/")[0]], _words(folder, known)
        certain, perhaps = _further(words, own, names, holders, forms, turned)
        said[folder] = np.zeros(len(columns), np.float32)
        said[folder][perhaps] = np.nan
        said[folder][[own, *certain]] = 1
        for also, told_of in ((certain, joint), (perhaps, unclear)):
            told_of += [f"{quoted(folder)} ({several([columns[j] for j in also])})"] if also else []
    notes = [f"folders are read as carrying further classes, by their names: {'; '.join(joint[:9])}"] if joint else []
    if unclear:
        notes.append(f"folders that may carry further classes, by their names, are unknown there: {'; '.join(unclear[:9])}")
    return said, notes


def _further(
    words: frozenset[str],
    own: int,
    names: Sequence[frozenset[str]],
    holders: Mapping[str, Sequence[int]],
    forms: Mapping[str, Sequence[str]],
    turned: frozenset[str],
) -> tuple[list[int], list[int]]:
    """The columns beside its own that a folder of these words carries, and those that it may carry."""
    if words <= {"both", "joint"}:
        return [], [j for j in range(len(names)) if j != own]
    counts = Counter(j for word in words for j in holders.get(word, ()))
    contained = sorted(j for j, count in counts.items() if count == len(names[j]) and j != own)
    deeper = [own] if names[own] < words else []  # the folder's path says more than its class
    left = words.difference(*(names[j] for j in (*contained, *deeper))) - turned
    plain = [each for each in left if each.isalpha() and len(words) > 1]  # one word says one class
    akin = {each: [word for word in forms.get(each[:_STEM], ()) if _akin(each, word) and f"!{word}" not in words] for each in plain}
    meant = {j for found in akin.values() for word in found for j in holders.get(word, ())} - {own, *contained}
    if len(contained) + len(deeper) + sum(map(bool, akin.values())) < 2:
        meant = set()
    certain = contained if len(contained) + len(deeper) > 1 or not left else []
    return certain, sorted({*contained, *meant} - {*certain})


def _akin(one: str, other: str) -> bool:
    """Whether two words are forms of one: they share all letters of the shorter one but, at most, the last (smile, smiling)."""
    least = max(_STEM, min(len(one), len(other)) - 1)
    return one != other and one[:least] == other[:least]


def _words(path: str, known: frozenset[str]) -> frozenset[str]:
    """The words of a folder's path that count, in lower case, those that are denied with `!` before them."""
    found = set()
    for part in path.split("/"):
        denied = ""
        for word in re.findall(r"[^\W_]+", re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", part)):
            for piece in _pieces(word.casefold(), known):
                if piece in _NOT:
                    denied = "!"
                elif piece not in _FILLING or piece in known:
                    found.add(denied + piece)
                    denied = ""
    return frozenset(found or {path.casefold()})


def _pieces(word: str, known: frozenset[str]) -> tuple[str, ...]:
    """`baldandbeard` in known words and those between them, `beardless` as `no beard`; any other word as it is."""
    if word.endswith("less") and word[:-4] in known:
        return "no", word[:-4]
    ends: dict[int, tuple[str, ...]] = {0: ()}
    for start in range(len(word) if len(word) <= _LONGEST else 0):
        if start in ends:
            for end in range(start + 2, len(word) + 1):
                piece = word[start:end]
                if piece != word and (piece in known or piece in _BETWEEN):
                    ends.setdefault(end, (*ends[start], piece))
    return ends.get(len(word), (word,))


# --- The same picture in two folders ----------------------------------------------------------------------------------


def _contents(source: Source, images: Sequence[str]) -> dict[str, str]:
    """A key per image, equal exactly when the bytes are: only files of equal size are read."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for name in images:
        sizes[source.stamp(name)[0]].append(name)
    keys = {}
    for size, names in sizes.items():
        for name in names:
            keys[name] = _digest(source, name) if len(names) > 1 else f"only one of {size} bytes"
    return keys


def _digest(source: Source, name: str) -> str:
    try:
        return hashlib.sha256(source.read(name)).hexdigest()
    except Exception:  # unreadable, whatever the reason: equal to none other, and named again where images are decoded
        return f"unreadable {name}"
