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
_FILLING = frozenset("a also alone and both but die face faces image images just n of only people person photo photos picture "
                     "pictures plus portrait portraits the them und with y".split())  # fmt: skip
_ALL = frozenset(("all", "both", "joint"))
_OR = frozenset(("oder", "or", "ou"))
_WEARERS = frozenset("boy boys female females girl girls guy guys hair haired has having head heads lady ladies male males man men wearing "
                     "wears woman women".split())  # whose attribute the other words tell  # fmt: skip
_NOT = frozenset("kein keine neither never no non nor not ohne un without".split())
_STEM = 3  # letters, at least, that the forms of a word share
_SIDES = 16  # names tried as the opposite corner of a square
_LONGEST = 40  # letters of words written together
_BETWEEN = frozenset(("and", "no", "not", "plus", "with", "without"))  # in words written together


def class_folders(source: Source, images: Sequence[str], dropped: Sequence[str] = ()) -> Rows:
    """An image carries what its folder says, and what others say only if the same content is there too: file names tell
    nothing, as cameras number alike. Folders called train, val or test are looked through. Errors name what was `dropped`."""
    root = _common(images)
    ids = {name: name[len(root) + 1 :] if root else name for name in images}
    inside, notes = _without_splits(ids)
    stray = [name for name in images if "/" not in inside[name]]
    if stray:
        raise FaceganError(
            f"data {source.path}: nothing tells the attributes of {len(stray)} images such as {quoted(stray[0])}: there is no "
            f"attribute file, and they stand beside, not in, class folders{''.join(f'; {note}' for note in dropped)}; {LAYOUTS}"
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
    odd = [top for top in tops if not _SPLITS.fullmatch(top)]
    if odd or all(id.count("/") < 2 for id in ids.values()):
        parts = [id.split("/") for id in ids.values() if id.count("/") > 1]
        below = [{part[1] for part in parts if part[0] == top} for top in tops if top not in odd]
        alike = odd and len(below) > 1 and len(set.intersection(*below)) > 1
        note = f"{several(tops)} are read as classes, not as parts of one data set with {several(sorted(below[0]))}: " if alike else ""
        return dict(ids), [f"{note}move {several(odd)} out of the data for that"] if alike else []
    inside = {name: id.partition("/")[2] for name, id in ids.items()}
    common = _common(inside.values())
    inside = {name: id[len(common) + 1 :] if common else id for name, id in inside.items()}
    return inside, [f"{several(tops)} are read as parts of one data set, whose classes are the folders in them"]


# --- What folders' names say ------------------------------------------------------------------------------------------


def told(folders: Sequence[str], columns: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """What each folder's path `CLASS/...` says of each column, the classes: float32 [C] of 1, 0 and NaN (may be); and notes.

    A folder carries its own class, and every class whose words are all among its own (`beard, bald`), if these are two or more, or
    explain all of its words (`only bald`). What may be meant is unknown: one class among other words (`bald with stubble`), and each of
    two or more classes of which it has a word, or a form of one (`bald and bearded` beside `bald men`). `no`, `not`, `without` and
    `-less` turn the word that follows.
    """
    whole = frozenset(column.casefold() for column in columns)
    split = [_words(column, whole) for column in columns]
    known = frozenset(word for words in split for word in words if not word.startswith("!")) | whole
    names = _counting([_words(column, known) for column in columns])
    classes = _Classes(names)
    position = {column: j for j, column in enumerate(columns)}
    said: dict[str, np.ndarray] = {}
    joint: list[str] = []
    unclear: list[str] = []
    for folder in folders:
        top, _, below = folder.partition("/")
        own = position[top]
        certain, perhaps = classes.further(own, names[own] | (_words(below, known) if below else frozenset()))
        said[folder] = np.zeros(len(columns), np.float32)
        said[folder][perhaps] = np.nan
        said[folder][[own, *certain]] = 1
        for also, told_of in ((certain, joint), (perhaps, unclear)):
            told_of += [f"{quoted(folder)} ({several([columns[j] for j in also])})"] if also else []
    notes = [f"folders are read as carrying further classes, by their names: {'; '.join(joint[:9])}"] if joint else []
    if unclear:
        notes.append(f"folders that may carry further classes, by their names, are unknown there: {'; '.join(unclear[:9])}")
    return said, notes


def _counting(names: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """The names without numbering and words for people, unless nothing else is left of a name, or another's."""

    def loose(word: str) -> bool:
        return not word.startswith("!") and (word.isdecimal() or len(word) == 1 and word.isascii() or word in _WEARERS)

    classes = frozenset(word for name in names if all(map(loose, name)) for word in name)
    bare = [frozenset(word for word in name if word in classes or not loose(word)) for name in names]
    alike = Counter(bare)
    return [name if alike[short] > 1 else short for name, short in zip(names, bare, strict=True)]


class _Classes:
    """The classes, by the words of their names."""

    def __init__(self, names: Sequence[frozenset[str]]) -> None:
        self.names = names
        self.all = frozenset(names)
        self.holders: dict[str, list[int]] = defaultdict(list)  # word -> the columns whose names have it
        for j, words in enumerate(names):
            for word in words:
                self.holders[word].append(j)
        self.forms: dict[str, list[str]] = defaultdict(list)  # first letters -> words
        for word in sorted(self.holders):
            self.forms[word[:_STEM]].append(word)
        kinds = {frozenset(filter(str.isalpha, name)) for name in names}  # numbered alike: once
        self.kinds, self.held = len(kinds), Counter(word for kind in kinds for word in kind)

    def further(self, own: int, words: frozenset[str]) -> tuple[list[int], list[int]]:
        """The columns beside its own that a folder of these words, its class's among them, carries, and those that it may carry."""
        mine = self.names[own]
        if mine & _ALL and mine <= _ALL | _FILLING:
            return [], [j for j in range(len(self.names)) if j != own]
        counts = Counter(j for word in words for j in self.holders.get(word, ()))
        contained = sorted(j for j, count in counts.items() if count == len(self.names[j]) and j != own)
        deeper = mine < words  # the folder's path says more than its class
        left = words.difference(*(self.names[j] for j in contained), mine if deeper else ())
        left -= {word for word in left if word.startswith("!") and word[1:] in self.holders}
        meant = self._meant(own, words - mine if deeper else words, words)
        enough = 1 if deeper else 2
        if sum(map(bool, meant.values())) < enough or len(set().union(*meant.values())) < enough:
            meant = {}
        certain = contained if (len(contained) + deeper > 1 or not left) and not words & _OR else []
        return certain, sorted({*contained}.union(*meant.values()) - {*certain})

    def _meant(self, own: int, asked: frozenset[str], words: frozenset[str]) -> dict[str, set[int]]:
        """Word -> the columns that it may mean: those with it or a form of it, but for what says more than this folder, what crosses
        it, and a word of most classes, where no class has all of its words here."""
        akin = {
            each: [word for word in self.forms.get(each[:_STEM], ()) if _akin(each, word) and f"!{word}" not in words]
            for each in asked
            if each.isalpha()
        }
        similar = {word for found in akin.values() for word in found}
        meant = {each: {j for word in found for j in self.holders[word]} - {own} for each, found in akin.items()}
        named = {j for found in meant.values() for j in found if self.names[j] <= similar and not words < self.names[j]}
        for each, found in meant.items():
            others = self.held[each] - (each in self.names[own])
            if not named and 3 * others >= 2 * (self.kinds - 1):
                found.clear()
            found.difference_update([j for j in found if words < self.names[j] or self._crosses(self.names[j], words)])
        return meant

    def _crosses(self, name: frozenset[str], words: frozenset[str]) -> bool:
        """Whether the two are sides of a square of names, as `young man` and `young woman` beside `old man` and `old woman`."""
        new = name - words
        if not new or len(name) != len(words):
            return False
        opposite = (self.names[j] for j in self.holders[min(new)][:_SIDES])
        return any(len(each) == len(name) and new <= each and not each & words and (words | each) - name in self.all for each in opposite)


def _akin(one: str, other: str) -> bool:
    """Whether two words are forms of one: they share all letters of the shorter one but, at most, the last (smile, smiling)."""
    least = max(_STEM, min(len(one), len(other)) - 1)
    return one == other or one[:least] == other[:least]


def _words(path: str, known: frozenset[str]) -> frozenset[str]:
    """The words of a folder's path that count, in lower case, those that are denied with `!` before them."""
    found, every = set(), set()
    for part in path.split("/"):
        denied = ""
        for word in re.findall(r"[^\W\d_]+|\d+", re.sub(r"([^\W\d_A-Z])([A-Z])", r"\1 \2", part)):
            for piece in _pieces(word.casefold(), known):
                every.add(piece)
                if piece in _NOT:
                    denied = "!"
                elif piece not in _FILLING or piece in known:
                    found.add(denied + piece)
                    denied = ""
    return frozenset(found if any(not word.isdecimal() for word in found) else every or {path.casefold()})


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
