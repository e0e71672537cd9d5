#!/usr/bin/env bash
# Fetches real PDF files from Debian's documentation packages (nothing is installed), for a check of the engine "pdfs":
#
#   tools/debian_pdfs.sh data/debian_pdfs
#   python -m pipelines build pdfs --set folder=data/debian_pdfs --set slices=1 --out data/debian_pairs
set -euo pipefail
folder=${1:?usage: tools/debian_pdfs.sh FOLDER}
packages="developers-reference debian-faq-de debian-faq-ja groff-base bzip2-doc fontconfig maint-guide-zh-cn"
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq $packages)
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/files"; done
find "$work/files" -name '*.pdf.gz' -exec gunzip {} +
find "$work/files" -name '*.pdf' -exec cp {} "$folder" \;
ls -l "$folder"
