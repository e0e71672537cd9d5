#!/usr/bin/env bash
# Fetches real LaTeX sources with their PDF from Debian's documentation packages (sample papers of publishers and
# manuals of scientific packages; nothing is installed), for a check of the engine "papers":
#
#   tools/debian_papers.sh data/debian_papers
#   python -m pipelines build papers --set folder=data/debian_papers --count 500 --out data/papers
#   python -m pipelines check data/papers
set -euo pipefail
folder=${1:?usage: tools/debian_papers.sh FOLDER}
mkdir -p "$folder"
source "$(dirname "$0")/debian_unpack.sh"
unpack texlive-publishers-doc texlive-science-doc
folder=$(realpath "$folder")
cd "$unpacked/usr/share/doc/texlive-doc" # parts lie where their source looks for them
find . \( -name '*.tex' -o -name '*.pdf' \) -exec cp --parents {} "$folder" \;
find "$folder" -name '*.tex' | wc -l
