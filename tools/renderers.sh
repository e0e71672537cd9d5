#!/usr/bin/env bash
# Installs what the formatted engines draw with: pdfLaTeX, LibreOffice (Word files), and the Node packages. Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=()
command -v pdflatex >/dev/null && kpsewhich tikz.sty CJKutf8.sty mhchem.sty multirow.sty c70gbsn.fd lmodern.sty >/dev/null ||
  packages+=(texlive-latex-base texlive-latex-recommended texlive-latex-extra texlive-pictures texlive-science
    texlive-fonts-recommended lmodern latex-cjk-chinese latex-cjk-chinese-arphic-gbsn00lp)
command -v soffice >/dev/null || packages+=(libreoffice-writer-nogui)
command -v tesseract >/dev/null || packages+=(tesseract-ocr tesseract-ocr-chi-sim)
[ -f /usr/share/wordnet/data.noun ] || packages+=(wordnet-base)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
make node
