#!/usr/bin/env bash
# Fetches real PDF files from Debian's documentation packages (nothing is installed), for a check of the engine "pdfs":
#
#   tools/debian_pdfs.sh data/debian_pdfs
#   python -m pipelines build pdfs --set folder=data/debian_pdfs --set slices=1 --out data/debian_pairs
set -euo pipefail
folder=${1:?usage: tools/debian_pdfs.sh FOLDER}
mkdir -p "$folder"
source "$(dirname "$0")/debian_unpack.sh"
unpack developers-reference debian-faq-de debian-faq-ja groff-base bzip2-doc fontconfig maint-guide-zh-cn
find "$unpacked" -name '*.pdf' -exec cp {} "$folder" \;
ls -l "$folder"
