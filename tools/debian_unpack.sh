# Sourced by the scripts beside it: fetches Debian packages, of which nothing is installed, and unpacks them.
#
#   unpack PACKAGE ...      -> $unpacked, a folder with their files; removed when the script ends
unpack() {
  local work
  work=$(mktemp -d)
  trap "rm -rf '$work'" EXIT
  (cd "$work" && apt-get download -qq "$@")
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/files"; done
  find "$work/files" \( -name '*.pdf.gz' -o -name '*.tex.gz' \) -exec gunzip {} +
  unpacked=$work/files
}
