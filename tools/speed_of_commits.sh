#!/usr/bin/env bash
# Times commits of this repository one after another with their own eval.speed, on the packages installed here:
#   tools/speed_of_commits.sh 4c962dd 7871448 HEAD -- --ours bfloat16 --repeats 2
# What stands after -- goes to `python -m eval.speed`, beside --quick and --no-rival.
set -euo pipefail
cd "$(dirname "$0")/.."
commits=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  commits+=("$1")
  shift
done
[ $# -gt 0 ] && shift
if [ ${#commits[@]} -eq 0 ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
python=$PWD/.venv/bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"; git worktree prune' EXIT
for commit in "${commits[@]}"; do
  git worktree add --quiet --detach "$folder/$commit" "$commit"
  echo "== $(git log -1 --format='%h %s' "$commit")"
  (cd "$folder/$commit" && PYTHONPATH=$PWD "$python" -m eval.speed --quick --no-rival "$@")
done
