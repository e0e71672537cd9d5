"""**kern as MEI: Verovio reads the second faster, and draws the same.

Verovio's own reading of **kern asks regular expressions at every token. Here are the systems that `kern` makes and
cuts: one layer a staff, whole measures; notes, chords, rests, beams, triplets, ties, slurs, a tempo. What holds
anything else (words, grace notes, other tuplets) is left to Verovio; so is the proof of every picture.
Source: Music Encoding Initiative 5 (music-encoding.org), in the form that Verovio writes.
"""

from __future__ import annotations

import functools
import itertools
import re
from fractions import Fraction
from html import escape
from typing import NamedTuple

PART = re.compile(r"([(\[]*)(\d{1,4})(\.*)(?:([a-g]+|[A-G]+)(#{0,2}|-{0,2}|n)|r)([)\]_]*)([LJkK]*)")
SIGNS = {"#": "s", "-": "f", "##": "x", "--": "ff", "n": "n", "": "n"}
TAIL = "</section></score></mdiv></body></music></mei>"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.1">'
    "<music><body><mdiv><score>"
)


Pitch = tuple[str, int, str]  # letter, octave, accidental
Begun = tuple[str, list[str]]  # of a tie or slur: the note that it leaves, and where its measure's are kept


class Note(NamedTuple):
    """One note of a token: what opens and closes at it, its pitch by letter, octave and accidental."""

    opens: str
    letter: str
    octave: int
    accidental: str
    written: bool  # a natural that is spelt out
    closes: str


class Token(NamedTuple):
    """A cell of **kern. No notes: a rest."""

    length: int  # 4 of a quarter, 12 of a third of one, 0 of a breve
    dots: str
    notes: tuple[Note, ...]
    beams: int  # opened less closed

    @property
    def triplet(self) -> bool:
        """Whether it lasts a third of two of its kind."""
        return self.length > 0 and self.length % 3 == 0

    @property
    def shown(self) -> int | str:
        """The kind of note that is drawn."""
        return self.length * 2 // 3 if self.triplet else self.length or "breve"

    @property
    def lasts(self) -> Fraction:
        """In whole notes."""
        plain = Fraction(1, self.length) if self.length else Fraction(2)
        return plain * (2 - Fraction(1, 2 ** len(self.dots)))


@functools.lru_cache(maxsize=65536)
def token(cell: str) -> Token | None:
    """Reads a cell; nothing for one that is not known here."""
    notes = []
    length, dots, beams = -1, "", 0
    for part in cell.split(" "):
        found = PART.fullmatch(part)
        if not found:
            return None
        opens, number, own_dots, letters, accidental, closes, beam = found.groups()
        if beam and notes:
            return None  # a chord's beams stand at its first note
        beams += beam.count("L") - beam.count("J")
        if length >= 0 and (int(number), own_dots) != (length, dots):
            return None
        length, dots = int(number), own_dots
        if length.bit_count() > 1 and (length % 3 or (length // 3).bit_count() > 1):
            return None
        if letters is None:
            return None if " " in cell or opens or closes or beam else Token(length, dots, (), 0)
        octave = 3 + len(letters) if letters.islower() else 4 - len(letters)
        if len(set(letters)) > 1:
            return None
        notes.append(Note(opens, letters[0].lower(), octave, accidental.strip("n"), accidental == "n", closes))
    return Token(length, dots, tuple(notes), beams)


def from_kern(text: str, tempo: str = "") -> str:
    """A system of kern as MEI, with a tempo above it; nothing where the text holds what is not known here."""
    rows = [line.split("\t") for line in text.split("\n")]
    columns = len(rows[0])
    if len(rows) < 7 or any(cell != "**kern" for cell in rows[0]):
        return ""
    if any(len(row) != columns or not all(row) for row in rows):
        return ""
    heads = [_head(*(row[column] for row in rows[1:4])) for column in range(columns)]
    if not all(heads) or not all(cell[0] == "=" for cell in rows[4]):
        return ""
    staves = [_Staff(columns - column, rows[3][column], rows[2][column]) for column in range(columns)]
    order = range(columns - 1, -1, -1)  # the last spine is the upper staff
    defined = "".join(f'<staffDef n="{staves[c].number}" lines="5">{heads[c]}</staffDef>' for c in order)
    brace = ' bar.thru="true" symbol="brace"' if columns > 1 else ""
    bars = [i for i, row in enumerate(rows) if row[0][0] == "="]
    measures: list[tuple[str, list[str]]] = []
    for first, last in itertools.pairwise(bars):
        inside, events = "", []
        for column in order:
            staff = staves[column]
            staff.begin(events)
            if not all(staff.add(rows[i][column], i) for i in range(first + 1, last) if rows[i][column] != "."):
                return ""
            layer = staff.layer()
            if not layer:
                return ""
            inside += f'<staff n="{staff.number}"><layer n="1">{layer}</layer></staff>'
        if "<note" not in inside:
            return ""  # Verovio draws several measures of rests as one
        right = ' right="end"' if last == bars[-1] else ""
        measures.append((f'<measure{right} n="{len(measures) + 1}">{inside}', events))
    if any(staff.ties or staff.slurs for staff in staves):
        return ""
    if tempo:
        measures[0][1].insert(0, f'<tempo staff="1" tstamp="1">{escape(tempo, quote=False)}</tempo>')
    body = "".join(f"{measure}{''.join(events)}</measure>" for measure, events in measures)
    score = f'<scoreDef tempo.dist="3vu"><staffGrp{brace}>{defined}</staffGrp></scoreDef>'
    return f"{HEAD}{score}<section>{body}{TAIL}"


@functools.lru_cache(maxsize=1024)
def _head(clef: str, key: str, meter: str) -> str:
    clefs, keys, meters = (
        re.fullmatch(pattern, text)
        for pattern, text in (
            (r"\*clef([GFC])(v?)(\d)", clef),
            (r"\*k\[((?:[a-g][#-])*)\]", key),
            (r"\*M(\d{1,3})/(\d{1,3})", meter),
        )
    )
    if not (clefs and keys and meters) or not int(meters[2]):
        return ""
    count, sign = len(keys[1]) // 2, "#" if "#" in keys[1] else "-"
    if keys[1] != "".join(letter + sign for letter in ("fcgdaeb" if sign == "#" else "beadgcf")[:count]):
        return ""
    signature = f"{count}{SIGNS[sign]}" if count else "0"
    below = ' dis="8" dis.place="below"' if clefs[2] else ""
    return (
        f'<clef shape="{clefs[1]}" line="{clefs[3]}"{below}/><keySig sig="{signature}"/>'
        f'<meterSig count="{meters[1]}" unit="{meters[2]}"/>'
    )


class _Staff:
    """One spine on its way through the measures."""

    def __init__(self, number: int, meter: str, key: str) -> None:
        self.number = number
        self.meter = Fraction(meter[2:])
        self.key = dict(re.findall(r"([a-g])([#-])", key))
        self.ties: dict[Pitch, Begun] = {}
        self.slurs: list[Begun] = []

    def begin(self, events: list[str]) -> None:
        """A new measure. `events` takes the ties and slurs that begin in it, in the order in which they end."""
        self.events = events
        self.signs: dict[tuple[str, int], str] = {}
        self.held: dict[tuple[str, int], str] = {}  # accidentals of notes that go on from before
        self.items: list[tuple[str, Token]] = []

    def add(self, cell: str, row: int) -> bool:
        """Takes a token; False for one that is not known here."""
        read = token(cell)
        if read is None:
            return False
        name = f"s{self.number}r{row}"
        how = f'dur="{read.shown}"'
        if read.dots:
            how += f' dots="{len(read.dots)}"'
        begun, self.ties = self.ties, {}
        if not read.notes:
            self.items.append((f"<rest {how}/>", read))
            return not begun
        chord = len(read.notes) > 1
        notes = []
        for i, note in enumerate(read.notes):
            own = f"{name}n{i}" if chord else name
            sign = self._sign(note)
            if not self._tie(note, own, begun):
                return False
            shared = "" if chord else f" {how}"
            notes.append(f'<note xml:id="{own}"{shared} oct="{note.octave}" pname="{note.letter}"{sign}/>')
        for note in read.notes:
            for _ in range(note.closes.count(")")):
                if not self.slurs:
                    return False
                start, events = self.slurs.pop()
                events.append(f'<slur staff="{self.number}" startid="#{start}" endid="#{name}"/>')
            self.slurs += [(name, self.events)] * note.opens.count("(")
        if begun:
            return False  # a tie that does not lead to the next note
        both = "".join(notes)
        self.items.append((f'<chord xml:id="{name}" {how}>{both}</chord>' if chord else both, read))
        return True

    def _sign(self, note: Note) -> str:
        """The accidental that is drawn: one that the key and the measure so far do not tell."""
        place = note.letter, note.octave
        known = self.signs.get(place, self.key.get(note.letter, ""))
        if "]" in note.closes or "_" in note.closes:
            self.held[place] = note.accidental
            return ""
        held = self.held.pop(place, note.accidental)
        if note.accidental == known and held == note.accidental and not note.written:
            return ""
        self.signs[place] = note.accidental
        return f' accid="{SIGNS[note.accidental]}"'

    def _tie(self, note: Note, own: str, begun: dict[Pitch, Begun]) -> bool:
        """Ends and begins a note's ties; False where one ends that has not begun."""
        pitch = note.letter, note.octave, note.accidental
        if "]" in note.closes or "_" in note.closes:
            if pitch not in begun:
                return False
            start, events = begun.pop(pitch)
            events.append(f'<tie startid="#{start}" endid="#{own}"/>')
        if "[" in note.opens or "_" in note.closes:
            if pitch in self.ties:
                return False
            self.ties[pitch] = own, self.events
        return True

    def layer(self) -> str:
        """The measure's notes in their beams and triplets; nothing for other tuplets."""
        if len(self.items) == 1 and not self.items[0][1].notes and self.items[0][1].lasts == self.meter:
            return "<mRest/>"
        out: list[str] = []
        open_beams = 0
        i = 0
        while i < len(self.items):
            triplet = self.items[i][1].triplet
            some = self.items[i : i + 3] if triplet else self.items[i : i + 1]
            if triplet:
                if (
                    len({(read.length, read.dots) for _, read in some}) > 1
                    or len(some) < 3
                    or open_beams
                    or some[0][1].dots
                ):
                    return ""
                whole = some[0][1].beams > 0 and some[0][1].beams + some[1][1].beams > 0
                hidden = ' bracket.visible="false"' if whole else ""
                out.append(f'<tuplet num="3" numbase="2"{hidden} num.format="count">')
            for xml, read in some:
                if read.beams > 0 and not open_beams:
                    out.append("<beam>")
                was, open_beams = open_beams, open_beams + read.beams
                out.append(xml)
                if open_beams < 0:
                    return ""
                if was + max(read.beams, 0) > 0 and not open_beams:
                    out.append("</beam>")
            if triplet:
                if open_beams:
                    return ""
                out.append("</tuplet>")
            i += len(some)
        return "" if open_beams else "".join(out)
