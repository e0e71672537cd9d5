r"""A quicker \pgfmathparse for TikZ's own small change.

A plain node asks PGF's parser dozens of times what a length or a number is, nearly always one of the same few:
`.5\pgflinewidth`, `1pt`, `.3333em`, `0`, or a coordinate that was read before. Here a control sequence for each answers
at once, with the same digits; everything else, and every number at its first appearance, goes to the parser as before.

`REMEMBERED` goes into a preamble after \usepackage{tikz}; the pages stay the same to the byte.
"""

from __future__ import annotations

LENGTHS = "0,0.0,0.2,0.4,0.6,0.8,1,1.0,1.2,1.5,1.6,2,2.0,3"  # of lines, gaps and points, in pt

# \pgfquick@EXPRESSION, where there is one, sets \pgfmathresult and whether a unit was given, as the parser would.
REMEMBERED = r"""\makeatletter
\def\pgfquickplain{\global\pgfmathunitsdeclaredfalse\global\pgfmathmathunitsdeclaredfalse}
\def\pgfquickunits{\global\pgfmathunitsdeclaredtrue\global\pgfmathmathunitsdeclaredfalse}
\def\pgfquicknumber{\pgfquickplain\let\pgfmathresult\pgfquickasked\ignorespaces}
\def\pgfquicklength{\pgfquickunits\pgfmath@dimen\pgfquickasked\relax
  \edef\pgfmathresult{\pgfmath@tonumber\pgfmath@dimen}\ignorespaces}
% An em is the font's; inside pictures TeX's own font is the empty one, so the parser selects it anew.
\def\pgfquickfont{pgfquickem@\f@encoding/\f@family/\f@series/\f@shape/\f@size}
\def\pgfquickem{\pgfquickunits
  \ifcsname\pgfquickfont\endcsname\else
    \begingroup\pgfmath@selectfont\pgfmath@dimen\pgfquickasked\relax
    \expandafter\xdef\csname\pgfquickfont\endcsname{\pgfmath@tonumber\pgfmath@dimen}\endgroup\fi
  \expandafter\let\expandafter\pgfmathresult\csname\pgfquickfont\endcsname\ignorespaces}
\def\pgfmathparse#1{\pgfmath@protected@edef\pgfquickasked{#1}%
  \ifcsname pgfquick@\detokenize\expandafter{\pgfquickasked}\endcsname
    \csname pgfquick@\detokenize\expandafter{\pgfquickasked}\expandafter\endcsname
  \else\expandafter\pgfquickparse\fi}
% As PGF's \pgfmathparse and \pgfmathparse@ begin, but for \pgfquicksign.
\def\pgfquickparse{\begingroup\pgfmath@catcodes\pgfmath@quickparsefalse\pgfquickplain
  \let\pgfmath@expression\pgfquickasked
  \ifx\pgfquickasked\pgfutil@empty\else\expandafter\pgfquicksign\pgfquickasked\pgfquickend\fi
  \expandafter\pgfmathparse@trynumber@loop\pgfmath@expression\pgfmath@parse@stop}
% Numbers are kept where the parser has found that they are some; numbers below 0 when it is done with them.
\def\pgfmathparse@expression@is@number{%
  \expandafter\global\expandafter\let
    \csname pgfquick@\detokenize\expandafter{\pgfmath@expression}\endcsname\pgfquicknumber
  \let\pgfmathresult\pgfmath@expression\pgfmath@smuggleone\pgfmathresult\endgroup\ignorespaces}
\def\pgfquickdash{-}
\def\pgfquicksign#1{\def\pgfquickfirst{#1}\ifx\pgfquickfirst\pgfquickdash
  \let\pgfmathpostparse\pgfquickkeep\expandafter\pgfquickdigit\else\expandafter\pgfquickleave\fi}
\def\pgfquickdigit#1{\ifx\pgfquickend#1\else\ifcsname pgfmath@token@numeric@\detokenize{#1}\endcsname
  \expandafter\expandafter\expandafter\pgfquickdigit\else
  \let\pgfmathpostparse\relax\expandafter\expandafter\expandafter\pgfquickleave\fi\fi}
\def\pgfquickleave#1\pgfquickend{}
\def\pgfquickend{\pgfquickend}
\def\pgfquickkeep{\expandafter\xdef\csname pgfquick@\detokenize\expandafter{\pgfmath@expression}\endcsname
  {\noexpand\pgfquickplain\def\noexpand\pgfmathresult{\pgfmathresult}\noexpand\ignorespaces}}
\@for\pgfquicknext:=LENGTHS\do{\expandafter\let\csname pgfquick@\pgfquicknext pt\endcsname\pgfquicklength}
\expandafter\let\csname pgfquick@\detokenize{.5\pgflinewidth}\endcsname\pgfquicklength
\expandafter\let\csname pgfquick@.3333em\endcsname\pgfquickem
\makeatother
""".replace("LENGTHS", LENGTHS)
