#!/usr/bin/env bash
# Fetches real LaTeX sources with their PDF from Debian's documentation packages (sample papers of publishers and
# manuals of scientific packages; nothing is installed), for a check of the engine "papers":
#
#   tools/debian_papers.sh data/debian_papers
#   python -m pipelines build papers --set folder=data/debian_papers --count 500 --out data/papers
#   python -m pipelines check data/papers
set -euo pipefail
folder=${1:?usage: tools/debian_papers.sh FOLDER}
packages="texlive-publishers-doc texlive-science-doc"
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq $packages)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/files"; done
find "$work/files" \( -name '*.pdf.gz' -o -name '*.tex.gz' \) -exec gunzip {} +
cd "$work/files/usr/share/doc/texlive-doc" # parts lie where their source looks for them
find . \( -name '*.tex' -o -name '*.pdf' \) -exec cp --parents {} "$(cd "$OLDPWD" && realpath "$folder")" \;
cd "$OLDPWD"
find "$folder" -name '*.tex' | wc -l
