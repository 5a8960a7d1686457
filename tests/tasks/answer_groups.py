"""Hundreds of final answers in the spellings that people and models give them: in a group all mean the same."""

from fractions import Fraction
from random import Random

WRITTEN: tuple[tuple[str, ...], ...] = (
    # numbers
    (
        *("1/2", "0.5", ".5", "½", r"\frac{1}{2}", r"\frac12", r"\dfrac{1}{2}", r"\tfrac 1 2", "2/4", "0.50", "$1/2$"),
        *(r"\sin 30^\circ", r"\cos 60^\circ", r"\sin(\pi/6)", r"\sin\frac{\pi}{6}", r"1 - \frac{1}{2}", "sin 30°"),
    ),
    ("3/2", "1.5", "1 1/2", "1½", r"1\frac{1}{2}", r"1\frac12", r"\frac32", "1.50", r"\frac{-3}{-2}", "6/4"),
    ("-3/4", "-0.75", r"-\frac34", r"\frac{-3}{4}", r"\frac{3}{-4}", "−0.75", "-¾"),
    (
        "1/3",
        r"\frac13",
        "0.333…",
        "0.333...",
        r"0.\overline{3}",
        r"0.\bar{3}",
        r"0.333\ldots",
        r"0.3\overline{3}",
        "⅓",
        "2/6",
    ),
    ("0.333", "333/1000", ".333"),
    ("0.33", "33/100", "0.330"),
    ("1/6", r"0.1\overline{6}", "0.1666…", r"\frac{1}{6}", "0.1(6)"),
    ("1/7", r"0.\overline{142857}", "0.142857142857..."),
    (
        "25",
        "25%",
        r"25\%",
        "25 percent",
        "25.0",
        "$25",
        "25 dollars",
        "+25",
        r"\$25.00",
        r"25^\circ",
        "25°",
        r"25\degree",
    ),
    ("0.25", "1/4", "¼", r"\frac{1}{4}", ".250"),
    (
        "1000",
        "1,000",
        "1 000",
        "10^3",
        "1{,}000",
        r"1\,000",
        "1e3",
        r"1,\!000",
        r"10^{3}",
        "１０００",
        "1000.00",
        "1,000 km",
    ),
    ("10000", "10{,}000", "10,000", "10 000", r"10^4", r"1 \times 10^4", "1×10^4", r"100^2", r"10,\! 000"),
    ("32349", r"32,\! 349", "32,349", r"32{,}349", "32 349", "32349 apples"),
    ("123456789012345678901234567890", "123,456,789,012,345,678,901,234,567,890", "123456789012345678901234567890.0"),
    ("123456789012345678901234567891", "123,456,789,012,345,678,901,234,567,891"),
    (r"2^{100}", "1267650600228229401496703205376", "2^100", r"4^{50}"),
    (r"2^{100}+1", "1267650600228229401496703205377"),
    ("24", "2 dozen", "24 eggs", "2 dozen eggs", r"\text{24}", "x = 24"),
    (
        "2",
        r"\sqrt{4}",
        r"\sqrt[3]{8}",
        "2 apples",
        "2.",
        r"\log_2 4",
        "x=2",
        "2 = x",
        r"\frac{4}{2}",
        r"\boxed{2}",
        "2 m",
    ),
    (
        "3",
        r"\log_2 8",
        r"\log_{2}{8}",
        "log_2(8)",
        r"\frac{\ln 8}{\ln 2}",
        r"\sqrt 9",
        "9^{1/2}",
        "1+2",
        r"\binom{3}{1}",
        "|-3|",
    ),
    ("60", r"60\degree", r"60^\circ", r"60^{\circ}", "60°", "60 degrees", r"60\text{ degrees}", "60%"),
    ("125", r"125\textnormal{ miles}", r"125\text{ miles}", "125 miles", r"125\mathrm{~miles}", r"125 \mbox{ miles}"),
    ("120", "5!", r"5 \cdot 4 \cdot 3 \cdot 2", "120 ways", r"\frac{6!}{6}"),
    ("-2", r"\sqrt[3]{-8}", "(-8)^{1/3}", "-2.0", "−2", "x = -2", "-2 points"),
    ("1500000", "1.5 million", "1,500,000", r"1.5 \times 10^6", "1.5 million dollars"),
    ("7/100", "0.07", r"7 \times 10^{-2}", "7e-2"),
    # units are dropped, more than units is not
    (
        "5",
        "5 km",
        "5 apples",
        "5 m/s",
        "$5",
        "5 more",
        "5.0",
        "5 apples left",
        r"5\text{ cm}^2",
        "5 cm^3",
        "5 sq. ft.",
        "5/day",
    ),
    ("5 am", "5:00 am", "5 a.m.", "5 AM", r"5\text{ a.m.}", "5:00 A.M."),
    ("5 pm", "5:00 pm", "5 p.m.", "5 PM"),
    ("5 more than x", r"\text{5 more than }x"),
    ("5 miles north", "5 Miles North"),
    ("5 miles south", r"5 \text{ miles south}"),
    ("3 fewer", r"\text{3 fewer}"),
    ("5m", r"5 \cdot m", "m + 4m"),
    ("2:30", r"2{:}30", " 2:30"),
    ("1:15", "$1:15$"),
    ("3 to 4", "3:4", "3 : 4", r"3\colon 4", r"\text{3 to 4}", "6:8"),
    ("4 to 3", "4:3", r"8\colon 6"),
    ("1 in 6", "1 out of 6", r"\text{1 in 6}"),
    ("6 in 1", "6 out of 1"),
    ("101_2", "101_{2}", "101 base 2", r"101_{\text{two}}", "(101)_2"),
    ("101_3", "101_{3}", "0101_3"),
    ("2516_8", "2516_{8}"),
    # roots and constants
    (
        r"2\sqrt{2}",
        r"\sqrt{8}",
        r"\sqrt8",
        "2√2",
        r"2 \cdot \sqrt{2}",
        r"\frac{4}{\sqrt2}",
        "2sqrt(2)",
        r"2^{3/2}",
        "8^{0.5}",
    ),
    (
        r"\frac{\sqrt{3}}{3}",
        r"\frac{1}{\sqrt{3}}",
        r"\frac{\sqrt3}3",
        r"\sqrt{\frac{1}{3}}",
        r"3^{-1/2}",
        r"\tan 30^\circ",
    ),
    (r"5\sqrt{2}\text{ cm}", r"5\sqrt2", r"\sqrt{50}", "5√2 cm", r"5\sqrt{2} inches", r"\sqrt{50}\mathrm{ cm}"),
    (
        r"12\pi",
        "12π",
        r"12 \pi \text{ cm}^2",
        r"\pi \cdot 12",
        "12 pi",
        r"12\pi square units",
        r"Area = 12\pi",
        r"24\frac{\pi}{2}",
    ),
    (r"\pi", "π", "pi", r"\frac{2\pi}{2}", r"180 \cdot \frac{\pi}{180}"),
    ("3.14159", "3.141590"),
    ("3.14", r"\frac{157}{50}", r"x \approx 3.14"),
    ("e", r"\mathrm{e}", r"e^1", r"\exp(1)", r"\mathrm e"),
    (r"\frac{1}{e}", r"\frac1{\mathrm e}", "e^{-1}", r"\frac{1}{\mathrm{e}}", "1/e", r"\exp(-1)"),
    (r"\frac1{\mathrm d}", "1/d", "d^{-1}", r"\frac{1}{d}"),
    ("1+2i", r"1+2\mathrm{i}", "2i+1", r"1 + 2\cdot i", r"1+\sqrt{-4}", r"\frac{2+4i}{2}"),
    ("1-2i", r"1-2\mathrm{i}", "-2i+1"),
    (r"\frac{1+\sqrt{5}}{2}", r"\frac12 + \frac{\sqrt5}{2}", "(1+√5)/2", r"\frac{\sqrt{5}+1}{2}", r"0.5(1+\sqrt 5)"),
    (r"\ln 2", r"\log_e 2", r"-\ln\frac12", r"\ln{2}", "ln(2)", r"\frac{\ln 4}{2}"),
    (r"\arctan 1", r"\frac{\pi}{4}", r"\tan^{-1}(1)", r"0.25\pi", "π/4", r"45\cdot\frac{\pi}{180}"),
    # expressions
    ("x+1", "1+x", r"\frac{x^2-1}{x-1}", "(x+1)", r"\frac{2x+2}{2}", "1 + 1x", r"$x+1$"),
    ("x-1", "-1+x", "-(1-x)", r"\frac{2x-2}{2}"),
    ("(x+1)^2", "x^2+2x+1", r"\left(x+1\right)^2", "x**2 + 2*x + 1", "(x+1)(x+1)", "1+2x+x²", r"x^{2}+2 \cdot x+1"),
    ("2x+1", "1+2x", "y = 2x+1", "y=1+2x", "2x - y + 1 = 0", "f(x) = 2x+1", "2x+1=y", "4x-2y+2=0", r"x+x+1"),
    ("x", r"\text{x}", "y=x", r"\frac{2x}{2}", "$x$", r"\mathrm{x}", "x - y = 0", "x = y", "y - x = 0"),
    ("x^{10}", "x^10", "x^5 x^5", "(x^5)^2"),
    ("x^{9999}", r"x \cdot x^{9998}"),
    ("(x+1)^{9999}", "(1+x)^{9999}"),
    (r"\frac{x}{2}", "0.5x", "x/2", r"\frac12 x", r"x \div 2", "½x"),
    (r"\sqrt{x^2}", "|x|", r"\lvert x \rvert", r"\left|x\right|", "abs"[:0] + r"\vert x\vert"),
    (r"\sin^2 x", r"(\sin x)^2", r"1-\cos^2 x", r"\sin(x)^2", r"\sin^2(x)", r"\frac{1-\cos 2x}{2}"),
    (r"\sin 2x", r"2\sin x\cos x", r"\sin(2x)", r"2 \cos x \sin x"),
    (r"\tan x", r"\frac{\sin x}{\cos x}", r"\tan(x)", r"1/\cot x"),
    ("xyz", "zyx"[:0] + "x y z", r"x \cdot y \cdot z", "xyz^1"),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", r"\frac{n^2-n}{2}", r"\frac{n!}{2(n-2)!}"),
    (r"a_1 + a_2", "a_{1}+a_{2}", "a_2+a_1"),
    ("a_{12}", "a_{1 2}"),
    (r"\alpha+\beta", "α+β", r"\beta + \alpha"),
    (r"36x\sqrt{35x}", r"\sqrt{60x}\cdot\sqrt{12x}\cdot\sqrt{63x}"),
    # sums and products keep their parts
    (r"\sum_{k=1}^{n} k", r"\sum_{i=1}^n i", r"\sum_{j=1}^{n} j"),
    (r"\prod_{k=1}^{n} k", r"\prod_{i=1}^n i"),
    (r"\sum_{k=2}^{n} k", r"\sum_{i=2}^{n} i"),
    (r"\sum_{k=1}^{m} k", r"\sum_{i=1}^{m} i"),
    ("55", r"\sum_{k=1}^{10} k", r"\sum_{k=0}^{10} k", "55.0"),
    ("3628800", r"\prod_{k=1}^{10} k", "10!"),
    (r"\lim_{x\to 0}\frac{1}{x}", r"\lim_{t \to 0} \frac{1}{t}"),
    (r"\bigcup_{k=1}^{n} A_k",),
    (r"\min_{x \in S} f(x)",),
    # equations and inequalities
    ("x^2=4", "x^2 - 4 = 0", "4 = x^2", "2x^2=8", r"x^2-4=0"),
    ("x^2+y^2=1", "y^2+x^2=1", "2x^2+2y^2=2", "x^2 + y^2 - 1 = 0", "1 = x^2+y^2"),
    ("x^2+y^2=4", "x^2+y^2-4=0"),
    ("y = x^2 - 3", "x^2-3", "x^2 - y - 3 = 0", "-3+x^2"),
    ("3x+4y=12", "4y+3x=12", "6x+8y=24", r"\frac{x}{4}+\frac{y}{3}=1", r"y = 3-\frac{3}{4}x", "3x + 4y - 12 = 0"),
    ("xy=1", r"y = \frac1x", r"\frac{1}{x}", "xy-1=0"),
    ("x>3", "3<x", r"(3,\infty)", r"x \in (3,\infty)", r"\{x \mid x>3\}", "(3, ∞)", "2x>6", r"(3, +\infty)"),
    (r"x\ge3", "x>=3", r"[3,\infty)", r"3\leq x", "x ≥ 3", r"x \geqslant 3"),
    ("0<x<1", "1>x>0", "x>0 and x<1", r"x \in (0,1)", "(0,1)", r"(0,\,1)", r"\left(0,1\right)", "x > 0, x < 1"),
    (r"x<0 or x>1", r"(-\infty,0)\cup(1,\infty)", r"x>1 \text{ or } x<0", "(1,∞)∪(-∞,0)", "x<0, x>1", r"x<0\lor x>1"),
    (r"x \ne 2", "x ≠ 2", r"\mathbb{R}\setminus\{2\}", r"(-\infty,2)\cup(2,\infty)", r"x\neq2"),
    (r"y > 2x+1", "2x+1 < y", "2x - y + 1 < 0", "2y>4x+2", "y - 2x > 1"),
    (r"y \ge 2x+1", "2x+1 ≤ y"),
    # lists, sets, points, intervals
    (
        "1, 2",
        "2, 1",
        r"\{1,2\}",
        r"\{2, 1\}",
        "1 and 2",
        "x = 1 or x = 2",
        r"x=1,2",
        "{1,2}",
        r"x \in \{1,2\}",
        "x=1, x=2",
    ),
    ("19, 46, 82", r"19, 46, \text{ and } 82", r"\{82,46,19\}", "19, 46, and 82", "82 and 46 and 19"),
    (r"\pm 2", "2, -2", r"\{-2, 2\}", r"x=\pm2", "x = 2 or x = -2", "±2", r"x = -2 \text{ or } x = 2"),
    (r"1\pm\sqrt{2}", r"1+\sqrt2, 1-\sqrt2", r"\{1-\sqrt{2},1+\sqrt{2}\}", r"1\mp\sqrt2", r"x = 1\pm\sqrt2"),
    (r"\varnothing", r"\emptyset", "∅", r"\{\}", r"\text{no solution}", "No solutions", "the empty set"),
    (
        r"\mathbb{R}",
        "ℝ",
        r"(-\infty,\infty)",
        r"\text{all real numbers}",
        "All real numbers",
        r"x \in \mathbb R",
        "all reals",
    ),
    (
        "(1,2)",
        r"\left(1, 2\right)",
        "(1, 2)",
        "(x,y) = (1,2)",
        "x=1, y=2",
        "y = 2, x = 1",
        r"(1, \frac{4}{2})",
        "1<x<2",
    ),
    ("(2,1)", "(2, 1)", "x = 2, y = 1", r"\left( 2 , 1 \right)"),
    ("[1,2]", r"\left[1,2\right]", r"1\le x\le 2", r"x \in [1,2]"),
    ("[1,2)", r"\left[1,2\right)", r"1\le x<2", "[1.0, 2)"),
    ("(1,2]", r"1<x\le2"),
    ("(1,2,3)", "(1, 2, 3)", "(x,y,z)=(1,2,3)", "x=1, y=2, z=3"),
    ("(1,3,2)", "(1, 3, 2)"),
    (r"\langle 1,2\rangle", r"\langle 1, 2 \rangle", "⟨1,2⟩"),
    ("(1,2), (3,4)", "(3,4), (1,2)", r"\{(1,2),(3,4)\}", "(1,2) and (3,4)"),
    ("(2,1), (4,3)", r"\{(4,3),(2,1)\}"),
    (r"[0,1)\cup(2,3]", r"(2,3]\cup[0,1)", "[0,1)∪(2,3]", r"0\le x<1 \text{ or } 2<x\le3"),
    (r"(0,9)\cup(9,36)", r"\left(9,36\right)\cup\left(0,9\right)"),
    (r"(0,36)", r"(0,9]\cup(5,36)"),
    (
        r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}",
        r"\begin{pmatrix} 1 \\ \frac{4}{2} \end{pmatrix}",
    ),
    (r"\begin{pmatrix}2\\1\end{pmatrix}", r"\begin{bmatrix} 2 \\ 1 \end{bmatrix}"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \end{bmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}", "[[1,2],[3,4]]"),
    (r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", "[[1,3],[2,4]]"),
    # words
    (r"\text{Even}", "even", "Even.", "$\\text{Even}$", "EVEN", r"\textbf{even}", r"\mathrm{even}"),
    ("odd", r"\text{odd}", "Odd"),
    (r"n \text{ even}", "n even", r"$n$ even"),
    (r"n \text{ odd}", "n odd"),
    ("Monday", r"\text{monday}", "monday.", "**Monday**"),
    ("ellipse", "an ellipse", r"\text{an ellipse}", "Ellipse", "the ellipse"),
    ("silent",),
    ("listen",),
    ("2 hours and 30 minutes", "2 hours, 30 minutes", "2 hours 30 minutes"[:0] + "2 Hours and 30 Minutes"),
    ("A", r"\text{A}", "(A)", r"\text{(A)}", r"\textbf{A}", r"\mathrm{A}"),
    ("B", r"\text{B}", "(B)"),
    ("yes", "Yes", r"\text{Yes}", "YES."),
    ("no", "No", r"\text{No}"),
    ("twenty-one", "twenty one", "Twenty-One"),
)


def written_groups() -> list[tuple[str, ...]]:
    return [tuple(dict.fromkeys(text for text in group if text)) for group in WRITTEN]


def made_groups(seed: int = 0) -> list[tuple[str, ...]]:
    """More of each kind, with drawn numbers; no two groups mean the same."""
    random = Random(seed)
    groups: list[tuple[str, ...]] = []
    for n in random.sample(range(1001, 99_999), 60):  # thousands
        groups.append(
            (str(n), f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", r",\!"), f"{n}.0", f"x = {n}")
        )
    for n, d in _fractions(random, 60):
        groups.append(
            (f"{n}/{d}", rf"\frac{{{n}}}{{{d}}}", rf"\dfrac{{{2 * n}}}{{{2 * d}}}", f"({n})/({d})", rf"{n} \div {d}")
        )
    for a in random.sample(
        [n for n in range(2, 80) if int(n**0.5) ** 2 != n and all(n % k**2 for k in range(2, 9))], 25
    ):
        groups.append(
            (
                rf"3\sqrt{{{a}}}",
                rf"\sqrt{{{9 * a}}}",
                f"3√{a}",
                rf"\sqrt{{{a}}} \cdot 3",
                rf"\frac{{3\cdot {a}}}{{\sqrt{{{a}}}}}",
            )
        )
    for a, b in _pairs(random, 40, 1, 60):
        groups.append(
            (f"({a}.25, {b}.5)", rf"\left({a}.25, {b}\tfrac12\right)", rf"({a}\frac14,\frac{{{2 * b + 1}}}{{2}})")
        )
        groups.append((rf"\{{{a}.75, {b}.5\}}", f"{b}.5, {a}.75", f"x = {a}.75 or x = {b}.5", f"{a}.75 and {b}.5"))
        groups.append(
            (f"[{a}.125, {a + b}.5]", rf"{a}.125 \le x \le {a + b}.5", rf"x\in\left[{a}\frac18,{a + b}.50\right]")
        )
    for a, b in _pairs(random, 40, 2, 30):
        groups.append((f"{a}x^3+{b}", f"{b}+{a}x^3", f"{a}(x^3) + {b}", rf"{a} \cdot x^{{3}} + {b}", f"y = {a}x^3+{b}"))
        groups.append((f"{a}x^4 + {b}y^4 = 7", f"{2 * a}x^4+{2 * b}y^4=14", f"{b}y^4 = 7-{a}x^4", f"7={b}y^4+{a}x^4"))
        groups.append(
            (
                rf"\begin{{pmatrix}}{a}\\{b}.5\end{{pmatrix}}",
                rf"\begin{{bmatrix}} {a} \\ \frac{{{2 * b + 1}}}{{2}} \end{{bmatrix}}",
            )
        )
        groups.append((f"{a}+{b}i^3", f"{a}-{b}i", rf"{a} - {b}\mathrm{{i}}", f"-{b}i+{a}"))
    return groups


def _fractions(random: Random, number: int) -> list[tuple[int, int]]:
    found: dict[Fraction, tuple[int, int]] = {}
    while len(found) < number:
        value = Fraction(random.randint(1, 400), random.randint(101, 199))
        if value.denominator > 100:
            found[value] = (value.numerator, value.denominator)
    return list(found.values())


def _pairs(random: Random, number: int, low: int, high: int) -> list[tuple[int, int]]:
    return random.sample([(a, b) for a in range(low, high) for b in range(low, high) if a != b], number)
