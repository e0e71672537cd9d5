r"""A grammar of LaTeX formulas as papers and schoolbooks have them, in Mathpix's spelling (x^{2}, \frac{a}{b})."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LATIN = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ")
COMMON = list("xyztnmabckijfgpqrs")
GREEK = (
    r"\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \vartheta \kappa \lambda \mu \nu \xi \pi \rho "
    r"\sigma \tau \phi \varphi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Xi \Pi \Sigma \Phi \Psi \Omega"
).split()
FUNCTIONS = r"\sin \cos \tan \log \ln \exp \det \arg \sinh \cosh \arctan \max \min".split()
FUNCTIONS += [r"\operatorname{rank}", r"\operatorname{tr}"]
RELATIONS = (
    r"= = = = = < > \leq \geq \neq \approx \equiv \sim \propto \in \subset \ll \gg \rightarrow \mapsto :=".split()
)
OPERATORS = r"+ + + - - - \cdot \times \pm \otimes \oplus \circ \cup \cap \wedge /".split()
ACCENTS = r"\hat \bar \tilde \vec \dot \ddot \widehat \overline \widetilde \mathbf \boldsymbol".split()
STYLES = {r"\mathcal": "ABCDEFGHLMNOPST", r"\mathbb": "RCNZQEP", r"\mathfrak": "gabSAp", r"\mathrm": "dedABC"}
DELIMITERS = [("(", ")"), ("[", "]"), (r"\{", r"\}"), ("|", "|"), (r"\|", r"\|"), (r"\langle", r"\rangle")]
DELIMITERS += [(r"\lfloor", r"\rfloor"), (r"\lceil", r"\rceil")]
BIG = [r"\sum", r"\prod", r"\int", r"\oint", r"\bigcup", r"\bigcap", r"\bigoplus", r"\iint"]
UNITS = r"m s kg K Hz eV J N W Pa V T mol cm mm km nm GeV MeV dB rad".split()
ELEMENTS = "H C N O S Cl Na K Ca Fe Cu Mg Al Zn Ag Br I P Si Mn Pb Ba".split()
GROUPS = ["H2O", "CO2", "O2", "H2", "N2", "NaCl", "HCl", "NaOH", "H2SO4", "CaCO3", "NH3", "CH4", "C2H5OH", "Fe2O3"]
GROUPS += ["CuSO4", "KMnO4", "MnO2", "Al2O3", "SO2", "NO2", "C6H12O6", "AgNO3", "AgCl", "BaSO4", "MgO", "P2O5"]
IONS = ["H+", "Na+", "OH-", "Cl-", "SO4^2-", "Ca^2+", "Fe^3+", "NH4+", "CO3^2-", "Cu^2+", "NO3-", "MnO4-"]
NABLAS = ["", r"^{2} ", r"\cdot "]
LIMITS = ["0", r"\infty", "1"]
SETS = [r"\mathbb{R}", r"\mathbb{N}", "X", "S"]
STEPS = ["=", "=", "=", r"\leq", r"\approx"]
BREAK, INT = r" \\ ", r"\int"
WORDS = {
    "en": ["if ", "otherwise", "for all ", "where ", "and ", "subject to ", "else", "such that "],
    "zh": ["若 ", "其他", "对任意 ", "其中 ", "且 ", "当 ", "否则", "使得 "],
}


class Grammar:
    """Draws formulas. Depth bounds how far parts are nested."""

    def __init__(self, rng: np.random.Generator, language: str = "en") -> None:
        self.rng = rng
        self.language = "zh" if language == "zh" else "en"

    def pick(self, items: Sequence[str]) -> str:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self) -> str:
        kind = self.rng.random()
        if kind < 0.7:
            return str(self.rng.integers(0, 13))
        if kind < 0.85:
            return str(self.rng.integers(10, 2000))
        return f"{self.rng.uniform(0, 100):.{int(self.rng.integers(1, 4))}f}"

    def letter(self) -> str:
        kind = self.rng.random()
        if kind < 0.5:
            return self.pick(COMMON)
        if kind < 0.66:
            return self.pick(LATIN)
        if kind < 0.88:
            return self.pick(GREEK)
        if kind < 0.95:
            return f"{self.pick(ACCENTS)}{{{self.pick(COMMON)}}}"
        style = self.pick(list(STYLES))
        return f"{style}{{{self.pick(list(STYLES[style]))}}}"

    def index(self) -> str:
        kind = self.rng.random()
        if kind < 0.45:
            return self.pick(list("ijknm012"))
        if kind < 0.65:
            return f"{self.pick(list('ijkn'))}{self.pick(['+', '-'])}1"
        if kind < 0.8:
            return f"{self.pick(list('ijk'))}{self.pick(list('jkl'))}"
        if kind < 0.9:
            return f"{self.pick(list('ijk'))}, {self.pick(list('jkn'))}"
        return rf"\mathrm{{{self.pick(['max', 'min', 'eff', 'in', 'out', 'tot', 'ref'])}}}"

    def symbol(self) -> str:
        """A letter, with or without indices."""
        base = self.letter()
        if self.chance(0.3):
            base += f"_{{{self.index()}}}"
        if self.chance(0.2):
            power = self.pick(["2", "3", "n", "-1", "*", r"\prime", "T", r"\dagger", "2n", "(k)", r"\alpha", "1/2"])
            base += f"^{{{power}}}"
        return base

    def atom(self, depth: int) -> str:
        kind = self.rng.random()
        if depth <= 0 or kind < 0.4:
            return self.symbol() if self.chance(0.75) else self.number()
        if kind < 0.54:
            return rf"\frac{{{self.sum(depth - 1)}}}{{{self.sum(depth - 1)}}}"
        if kind < 0.62:
            order = f"[{self.pick(['3', 'n', '4'])}]" if self.chance(0.2) else ""
            return rf"\sqrt{order}{{{self.sum(depth - 1)}}}"
        if kind < 0.72:
            name = self.pick(FUNCTIONS)
            power = "^{2}" if name in (r"\sin", r"\cos", r"\tan") and self.chance(0.3) else ""
            return (
                rf"{name}{power} \left({self.sum(depth - 1)}\right)" if self.chance(0.6) else f"{name} {self.symbol()}"
            )
        if kind < 0.82:
            left, right = DELIMITERS[
                int(self.rng.choice(len(DELIMITERS), p=[0.5, 0.15, 0.06, 0.1, 0.06, 0.07, 0.03, 0.03]))
            ]
            inside = self.sum(depth - 1)
            closed = rf"\left{left} {inside} \right{right}"
            return closed + (f"^{{{self.pick(['2', '3', 'n', '-1', 'T', '1/2'])}}}" if self.chance(0.3) else "")
        if kind < 0.93:
            return self.big(depth)
        kinds = [
            lambda: rf"\frac{{\partial {self.letter()}}}{{\partial {self.letter()}}}",
            lambda: rf"\frac{{d^{{2}} {self.letter()}}}{{d {self.pick(list('txs'))}^{{2}}}}",
            lambda: rf"\binom{{{self.index()}}}{{{self.pick(list('kmj'))}}}",
            lambda: rf"\nabla {self.pick(NABLAS)}{self.symbol()}",
            lambda: rf"e^{{{self.sum(depth - 1)}}}",
            lambda: rf"\overline{{{self.symbol()} {self.symbol()}}}",
            lambda: rf"\underbrace{{{self.sum(depth - 1)}}}_{{{self.index()}}}",
            lambda: rf"\lim_{{{self.pick(list('xntk'))} \rightarrow {self.pick(LIMITS)}}} {self.atom(depth - 1)}",
            lambda: rf"{self.letter()}\left({self.symbol()}, {self.symbol()}\right)",
            lambda: rf"{self.letter()} \mid {self.symbol()}",
        ]
        return kinds[int(self.rng.integers(len(kinds)))]()

    def big(self, depth: int) -> str:
        """A sum, product, integral, union with its limits."""
        name = self.pick(BIG)
        if "int" in name:
            limits = self.pick(["_{0}^{1}", r"_{0}^{\infty}", r"_{-\infty}^{\infty}", "_{a}^{b}", r"_{\Omega}", ""])
            inside = self.product(depth - 1)
            return rf"{name}{limits if name == INT else ''} {inside} \, d {self.pick(list('xtsyu'))}"
        limits = self.pick(["_{i=1}^{n}", "_{k=0}^{N}", r"_{n=1}^{\infty}", r"_{j \in J}", "_{i, j}", "_{m=-N}^{N}"])
        return f"{name}{limits} {self.product(depth - 1)}"

    def product(self, depth: int) -> str:
        count = int(self.rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        return " ".join(self.atom(depth) for _ in range(count))

    def sum(self, depth: int) -> str:
        count = int(self.rng.choice([1, 2, 3], p=[0.5, 0.37, 0.13]))
        parts = [self.product(depth)]
        for _ in range(count - 1):
            parts += [self.pick(OPERATORS), self.product(depth)]
        return ("-" if self.chance(0.06) else "") + " ".join(parts)

    def relation(self, depth: int) -> str:
        """Two or three sides."""
        sides = [self.sum(max(0, depth - 1)), self.sum(depth)]
        if self.chance(0.12):
            sides.append(self.sum(depth - 1))
        made = sides[0]
        for side in sides[1:]:
            made += f" {self.pick(RELATIONS)} {side}"
        return made

    def matrix(self) -> str:
        """A matrix, a determinant or a vector."""
        kind = self.pick(["pmatrix", "bmatrix", "vmatrix", "matrix", "Bmatrix"])
        rows, columns = int(self.rng.integers(2, 5)), int(self.rng.integers(1, 5))
        cell = self.pick(["entry", "number", "symbol", "dots"])
        name = self.pick(list("abmxA"))

        def entry(i: int, j: int) -> str:
            if cell == "entry":
                return f"{name}_{{{i + 1}{j + 1}}}"
            if cell == "dots" and (i, j) == (1, 1):
                return r"\ddots" if columns > 1 else r"\vdots"
            return self.number() if cell == "number" else self.symbol()

        body = r" \\ ".join(" & ".join(entry(i, j) for j in range(columns)) for i in range(rows))
        left = f"{self.letter()} = " if self.chance(0.5) else ""
        right = f" {self.symbol()}" if self.chance(0.3) else ""
        return rf"{left}\begin{{{kind}}} {body} \end{{{kind}}}{right}"

    def cases(self) -> str:
        count = int(self.rng.integers(2, 4))
        words = WORDS[self.language]
        rows = []
        for i in range(count):
            when = words[7 if self.language == "zh" else 1] if i == count - 1 and self.chance(0.4) else ""
            when = rf"\text{{{when}}}" if when else rf"\text{{{words[0]}}} {self.relation(0)}"
            rows.append(f"{self.sum(1)}, & {when}")
        return rf"{self.letter()}({self.pick(COMMON)}) = \begin{{cases}} {BREAK.join(rows)} \end{{cases}}"

    def aligned(self, depth: int) -> str:
        """A derivation over several lines."""
        count = int(self.rng.integers(2, 6))
        rows = [f"{self.sum(depth - 1)} & = {self.sum(depth)}"]
        for _ in range(count - 1):
            left = self.sum(0) if self.chance(0.2) else ""
            rows.append(f"{left} & {self.pick(STEPS)} {self.sum(depth)}".strip())
        return rf"\begin{{aligned}} {BREAK.join(rows)} \end{{aligned}}"

    def reaction(self) -> str:
        """A chemical reaction by mhchem."""

        def side() -> str:
            parts = []
            for _ in range(int(self.rng.integers(1, 4))):
                pool = IONS if self.chance(0.2) else GROUPS
                factor = str(self.rng.integers(2, 7)) if self.chance(0.4) else ""
                parts.append(f"{factor}{self.pick(pool)}" + (self.pick([" ^", " v"]) if self.chance(0.08) else ""))
            return " + ".join(parts)

        arrow = self.pick(["->", "->", "<=>", "->[\\Delta]", "<-", "->[H+]"])
        return rf"\ce{{{side()} {arrow} {side()}}}"

    def quantity(self) -> str:
        """A value with its unit."""
        value = self.number()
        if self.chance(0.3):
            value += rf" \times 10^{{{int(self.rng.integers(-12, 13))}}}"
        unit = rf"\mathrm{{~{self.pick(UNITS)}}}"
        if self.chance(0.35):
            unit += rf" / \mathrm{{{self.pick(UNITS)}}}" + ("^{2}" if self.chance(0.4) else "")
        name = self.symbol()
        return f"{name} = {value} {unit}" if self.chance(0.7) else rf"{name} = ({value} \pm {self.number()}) {unit}"

    def logic(self) -> str:
        """Quantifiers and sets."""
        x = self.pick(COMMON)
        kinds = [
            lambda: rf"\forall {x} \in {self.pick(SETS)}, \quad {self.relation(1)}",
            lambda: rf"\left\{{ {x} \in \mathbb{{R}}^{{n}} \mid {self.relation(1)} \right\}}",
            lambda: rf"\exists {x}: {self.relation(0)} \Rightarrow {self.relation(0)}",
            lambda: (
                rf"{self.letter()}: {self.pick('XVM')} \rightarrow {self.pick('YWN')}, \quad {x} \mapsto {self.sum(1)}"
            ),
            lambda: rf"{self.pick(['A', 'B'])} \xrightarrow{{{self.letter()}}} {self.pick(['C', 'D'])}",
        ]
        return kinds[int(self.rng.integers(len(kinds)))]()

    def inline(self) -> str:
        """A formula that stands in a line of prose."""
        kind = self.rng.random()
        if kind < 0.4:
            return self.symbol()
        if kind < 0.8:
            return self.relation(0)
        if kind < 0.9:
            return self.relation(1)
        return self.quantity() if kind < 0.96 else self.reaction()

    def display(self) -> str:
        """A formula that stands by itself."""
        names = ("relation", "long", "aligned", "matrix", "cases", "reaction", "logic", "quantity")
        kind = str(self.rng.choice(names, p=[0.4, 0.14, 0.12, 0.1, 0.07, 0.06, 0.07, 0.04]))
        if kind == "relation":
            return self.relation(int(self.rng.integers(1, 4)))
        if kind == "long":
            return f"{self.relation(2)} {self.pick(OPERATORS[:6])} {self.sum(2)}"
        return self.aligned(2) if kind == "aligned" else getattr(self, kind)()
